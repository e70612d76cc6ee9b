"""What plugins at AWS have in common: who asks, boto3's core as client, and its errors as ours.

Deploy targets have it too (``certd_deploy.aws``): what they raise instead is said by three class
variables.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from certd.api import (
    CertdError,
    ConfigError,
    ProviderBusy,
    ProviderDenied,
    ProviderError,
    SecretReference,
    plain,
)
from certd_providers.rest import CONNECT, READ
from certd_providers.timely import make_pools_timely
from certd_providers.urls import check_url

BUSY = re.compile(
    "ConcurrentModification|DependencyThrottle|EntityTemporarilyUnmodifiable"
    "|Internal(Error|Failure)|OperationInProgress|PriorRequestNotComplete"
    "|Request(InProgressException|LimitExceeded|Timeout)"
    "|ServiceUnavailable|Throttl(ing|ingException|ed)|TooManyRequestsException"
    "|CertificateNotFound"  # of a load balancer: it has not heard yet of what was just uploaded
)
# https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html
CLOCK = re.compile(
    "Request(Expired|TimeTooSkewed|InTheFuture):|[A-Za-z]+: Signature (expired|not yet current)",
    re.IGNORECASE,
)
LACKS_A_PERMISSION = frozenset(("AccessDenied", "AccessDeniedException"))
# Services that speak JSON say so with 400, others with 401 or 403.
NO_SUCH_CREDENTIAL = re.compile(
    "(ExpiredToken|IncompleteSignature|InvalidSignature|MissingAuthenticationToken"
    "|UnrecognizedClient)(Exception)?"
)
PREFIX = {"elb": "elasticloadbalancing", "elbv2": "elasticloadbalancing"}  # IAM's names
# The values were read a moment ago: what speaks against them is somebody else's change.
OVERTAKEN = re.compile(
    "InvalidChangeBatch.*but (it (already exists|was not found)|the values provided do not match)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class AWS:
    """An account: whose settings they are says the class that has them besides its own."""

    credential: ClassVar[str]
    service: ClassVar[str]  # as boto3 names it
    failed: ClassVar[Callable[..., CertdError]] = ProviderError
    denied: ClassVar[Callable[..., CertdError]] = ProviderDenied
    busy: ClassVar[Callable[..., CertdError]] = ProviderBusy

    access_key_id: str | None = field(
        default=None, metadata={"description": "access key; without it boto3 finds one by itself"}
    )
    secret_access_key: SecretReference | None = field(
        default=None, metadata={"description": "what belongs to access_key_id"}
    )
    profile: str | None = field(
        default=None, metadata={"description": "profile in ~/.aws of certd's user"}
    )
    role_arn: str | None = field(
        default=None, metadata={"description": "role to assume, of another account say"}
    )
    external_id: str | None = field(
        default=None, metadata={"description": "what the role's trust policy asks for besides"}
    )
    region: str = field(
        default="us-east-1",
        metadata={"description": "decides on the partition: cn-north-1 for China, say"},
    )
    url: str | None = field(
        default=None,
        metadata={
            "description": "address of the API, and of STS, if it is another",
            "check": check_url,
        },
    )

    def __post_init__(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            why = "access_key_id and secret_access_key are one key"
            raise ConfigError("half of the access key is missing", why, "write both, or neither")
        if self.access_key_id is not None and self.profile is not None:
            why = "an access key and a profile both say who asks"
            raise ConfigError("there are two credentials", why, "leave one of them out")
        if self.external_id is not None and self.role_arn is None:
            why = "it is told when a role is assumed"
            raise ConfigError("external_id has no use", why, "write role_arn too, or leave it out")

    @contextlib.contextmanager
    def client(
        self, zone: str = "", *, service: str | None = None, region: str | None = None
    ) -> Iterator[Any]:
        """The library's client, for one operation, in this zone; of another service or region
        than its own.

        Raises:
            busy, denied, failed: also for what is done with the client.
        """
        service = service or self.service
        try:
            from botocore import exceptions
            from botocore.parsers import ResponseParserError
        except ImportError:
            todo = "pip install 'certd[aws]'"
            raise self.failed("AWS needs boto3", "it is not installed", todo) from None
        no_credential = (
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.CredentialRetrievalError,
            exceptions.ProfileNotFound,
            exceptions.TokenRetrievalError,
            exceptions.SSOError,
        )
        try:
            with contextlib.closing(self._client(service, region or self.region)) as client:
                yield client
        except exceptions.ClientError as error:
            raise self._refused(error, service, zone) from None
        except no_credential as error:
            # The machine may just be starting: nobody has refused anything yet.
            what = "there is no credential for AWS"
            raise self.failed(what, plain(str(error)), self.credential) from None
        except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
            # Their texts have the whole URL in them.
            why, todo = f"no answer ({type(error).__name__})", "it is tried again by itself"
            raise self.busy("AWS is not able to now", why, todo) from None
        except (ResponseParserError, KeyError, TypeError) as error:
            # A proxy's page, say, which says 200 too; the text may hold all of it.
            what, why = "AWS answers what certd does not understand", type(error).__name__
            todo = "look whether url is its API; if it is, please report it"
            raise self.failed(what, why, todo) from None
        except exceptions.BotoCoreError as error:
            todo = "correct what it names"
            raise self.failed("AWS cannot be asked", plain(str(error)), todo) from None

    def resource(self, operation: str) -> str:
        """What a permission for this operation is given on."""
        return "*"

    def of_zone(self, operation: str) -> bool:
        """Whether a permission for this operation is given for each zone."""
        return False

    def _client(self, service: str, region: str) -> Any:
        import botocore.session
        from botocore.config import Config

        hooks, loader = _prepared()
        # Not boto3's own: each would make the shared loader look in one more place, for ever.
        session = botocore.session.Session(
            profile=self.profile, event_hooks=copy.copy(hooks), include_builtin_handlers=False
        )
        session.register_component("data_loader", loader)
        _make_timely(session)
        session.set_config_variable("region", region)
        if self.secret_access_key is not None:
            session.set_credentials(self.access_key_id, self.secret_access_key.fetch().reveal())
        # One attempt: the core tries again, and knows how often.
        once = {"total_max_attempts": 1}
        how = Config(
            connect_timeout=CONNECT, read_timeout=READ, retries=once, user_agent_extra="certd"
        )
        key = {}
        if self.role_arn is not None:
            external = {} if self.external_id is None else {"ExternalId": self.external_id}
            sts = session.create_client("sts", endpoint_url=self.url, config=how)
            with contextlib.closing(sts):
                which = {"RoleArn": self.role_arn, "RoleSessionName": "certd", **external}
                role = sts.assume_role(**which)["Credentials"]
            key["aws_access_key_id"] = role["AccessKeyId"]
            key["aws_secret_access_key"] = role["SecretAccessKey"]
            key["aws_session_token"] = role["SessionToken"]
        return session.create_client(service, endpoint_url=self.url, config=how, **key)

    def _refused(self, error: Any, service: str, zone: str) -> CertdError:
        problem = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = problem.get("Code", "")
        said = plain(f"{code}: {problem.get('Message', '')}")
        if BUSY.fullmatch(code) or OVERTAKEN.match(said) or status == 429 or status >= 500:
            after = error.response["ResponseMetadata"].get("HTTPHeaders", {}).get("retry-after", "")
            wait = float(after) if after.isascii() and after.isdigit() else None
            return self.busy("AWS is not able to now", said, "it is tried again by itself", wait)
        if CLOCK.match(said):
            what = "AWS refuses the time of the request"
            return self.failed(what, said, "set this machine's clock")
        if code in LACKS_A_PERMISSION:
            operation = error.operation_name
            todo = f"allow it: {self._statement(service, operation)}"
            about = [zone] if self.of_zone(operation) else []
            return self.denied(f"AWS refuses {operation}", said, todo, *about)
        if status in (401, 403) or NO_SUCH_CREDENTIAL.fullmatch(code):
            return self.denied("AWS refuses the credential", said, self.credential)
        return self.failed("AWS refuses the change", said, "correct what it names")

    def _statement(self, service: str, operation: str) -> str:
        """What an IAM policy lacks."""
        resource = self.resource(operation)
        if operation == "AssumeRole":
            service, resource = "sts", self.role_arn or "*"
        action = f"{PREFIX.get(service, service)}:{operation}"
        return json.dumps({"Effect": "Allow", "Action": action, "Resource": resource})


def _no_keys(record: logging.LogRecord) -> bool:
    """botocore logs answers, that of STS too with a role's keys, and requests with these."""
    texts = ("Response body", "CanonicalRequest", "Sending http request")
    return not str(record.msg).startswith(texts)


for _name in ("parsers", "auth", "endpoint"):
    logging.getLogger(f"botocore.{_name}").addFilter(_no_keys)


def _make_timely(session: Any) -> None:
    """All of its clients, those too that it makes itself to ask for the keys of a role."""
    create = session.create_client

    def create_client(*positional: Any, **named: Any) -> Any:
        client = create(*positional, **named)
        http = client._endpoint.http_session
        make_pools_timely(http._manager)
        http._pool_classes_by_scheme = http._manager.pool_classes_by_scheme  # a proxy's too
        return client

    session.create_client = create_client


@functools.cache
def _prepared() -> tuple[Any, Any]:
    """The library's own hooks, to be copied, and the descriptions of AWS's services: both take
    longer than a change does.
    """
    import botocore.hooks
    import botocore.loaders
    import botocore.session

    hooks = botocore.hooks.HierarchicalEmitter()
    botocore.session.Session(event_hooks=hooks)  # puts them in there
    return hooks, botocore.loaders.create_loader()
