"""``certd renew``: what is due, once, also beside a running daemon."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from certd import due
from certd.budget import Limits
from certd.config import CASettings, Config
from certd.engine.node import Node, now
from certd.errors import CertdError, ConfigError
from certd.known import Failure, Lineage, TargetState
from certd.model import CertificateSpec
from certd.ordering import Say
from certd.store import Store

log = logging.getLogger(__name__)

FEW = 20  # certificates; more are read all at once
WATCH = 20.0  # seconds for what is or is to be revoked, before anything is begun
REMOVALS = 60.0  # seconds for records in DNS to be removed at the end
POLL = 0.2  # seconds between looks at a certificate that another certd works on


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one certificate, in words for the operator."""

    name: str
    kind: Literal["done", "nothing", "failed"]
    text: str


def renew(
    node: Node, names: Collection[str], *, named: bool, force: bool, new_key: bool = False
) -> list[Outcome]:
    """Bring these certificates to rest: served, not due, or failed.

    ``named``: the operator chose them, so no back-off holds; ``force``: renew them even if
    they are not due; ``new_key``: and with another key. What another certd has under way is
    waited for, not done again.

    Raises:
        ChallengeError: something must be issued and the CA's questions cannot be answered.
    """
    store = node.store
    pulled = [name for name in names if node.config.certificates[name].pulled]
    if new_key or force:
        _refuse_new(node.config, names, key=new_key)
    before = _lineages(node, names)
    if named:
        for name in names:
            store.lineages.retry_now(name, now(), force=force, new_key=new_key)
        store.lineages.ask_hub(pulled, now())
    # After the operator's word is kept, whatever happens now; before it is decided what is due.
    node.watch(WATCH)
    lineages = _lineages(node, names)
    plans = {name: _plan(node, lineage) for name, lineage in lineages.items()}
    todo = {
        name
        for name, plan in plans.items()
        if plan.next_look() <= now()
        or due.over(node.config.certificates[name], lineages[name], now())
    }
    if any(plans[name].issue.due(now()) and node.config.needs_http(name) for name in todo):
        node.listen()
    node.start()
    while todo or node.engine.in_flight():
        if todo:
            mine = store.leases.claim(sorted(todo))
            node.engine.add(mine)
            todo.difference_update(mine)
            # What another certd holds is over when nothing about it is due any more.
            for name, lineage in _lineages(node, todo).items():
                if _plan(node, lineage).next_look() > now():
                    todo.discard(name)
            store.leases.free_the_dead()
        node.engine.wait(POLL)
        if not node.engine.alive():
            raise CertdError("a thread of certd has died", "", "see the log, and report this bug")
    if not node.zones.removals.finish(REMOVALS):
        log.warning("records are still to be removed from DNS: the next certd does it")
    after = _lineages(node, names)
    return [_outcome(node, name, before[name], after[name]) for name in names]


def _refuse_new(config: Config, names: Collection[str], *, key: bool) -> None:
    for name in names:
        spec = config.certificates[name]
        if spec.pulled:
            raise ConfigError(
                f"{name} is not ordered here",
                f"it comes from {spec.cas[0]}, another certd",
                f"`certd renew --force {name}` there, and it is here within seconds",
            )
        if key and spec.csr:
            raise ConfigError(
                f"{name} cannot have a new key of certd's",
                "its signing request is yours, and so is its key",
                f"make another key and request, replace the file that csr names, then "
                f"`certd renew {name}`",
            )


def _lineages(node: Node, names: Collection[str]) -> dict[str, Lineage]:
    lineages = node.store.lineages
    if len(names) < FEW:
        return {name: lineages.get(name) for name in names}
    return {lineage.name: lineage for _, lineage in lineages.all() if lineage.name in names}


def _plan(node: Node, lineage: Lineage) -> due.Plan:
    return due.plan(node.config.certificates[lineage.name], lineage, now())


def _outcome(node: Node, name: str, before: Lineage, after: Lineage) -> Outcome:
    spec = node.config.certificates[name]
    targets = [after.targets.get(target, TargetState(target)) for target in spec.targets]
    if after.failure:
        again = after.retry_at
        if again is None and not (decision := due.issuance(spec, after, now())).due(now()):
            again = decision.at  # of those who may be asked for it
        text = _told(name, after.failure, before.failure, again)
        return Outcome(name, "failed", text)
    failed = []
    for state in targets:
        if state.failure:
            earlier = before.targets.get(state.target, TargetState(state.target)).failure
            text = _told(name, state.failure, earlier, state.retry_at)
            failed.append(f"{state.target}: {text}")
    if failed:
        return Outcome(name, "failed", "; ".join(failed))
    current = after.current
    if after.held_until and after.held_until > now():
        when = f"{after.held_until:%Y-%m-%d %H:%M}Z"
        return Outcome(name, "nothing", f"not before {when}: {after.held_for}")
    decision = due.issuance(spec, after, now())
    if decision.at >= due.NEVER and (park := next(iter(after.parks.values()), None)):
        return Outcome(name, "failed", f"{decision.reason}: {park.failure}")
    if after.ordering:
        text = f"its order is still under way; `certd renew {name}` or the daemon goes on with it"
        return Outcome(name, "failed", text)
    if current is None:
        return Outcome(name, "failed", "there is no certificate, and no reason is known")
    expiry = f"valid until {current.certificate.not_after:%Y-%m-%d %H:%M}Z"
    where = _where(spec, after)
    if before.current is None or before.current.number != current.number:
        verb = "renewed" if before.current else "issued"
        if spec.pulled:
            verb = f"fetched from {spec.cas[0]}"
        if node.reconciler.adopted.get(name) == current.number:
            verb = "taken back in from its targets"
        return Outcome(name, "done", f"{verb}, version {current.number}, {expiry}; at {where}")
    if _changes(before, spec) != _changes(after, spec):
        return Outcome(name, "done", f"deployed, version {current.number}, {expiry}; at {where}")
    if spec.pulled:
        return Outcome(name, "nothing", f"{spec.cas[0]} has nothing newer; {expiry}")
    when = f"{decision.at:%Y-%m-%d %H:%M}Z"
    return Outcome(
        name,
        "nothing",
        f"not due before {when}: {decision.reason}; {expiry}{_waiting(spec, after)}",
    )


def _where(spec: CertificateSpec, lineage: Lineage) -> str:
    """The targets that serve it, and for what the others wait."""
    there = [name for name in spec.targets if due.served(lineage, name)]
    none = "no target yet" if spec.targets else "no target"
    return (", ".join(there) or none) + _waiting(spec, lineage)


def _waiting(spec: CertificateSpec, lineage: Lineage) -> str:
    waiting = [item for item in due.plan(spec, lineage, now()).targets if item.waits]
    return "".join(
        f"; {item.target}: {item.decision.reason}"
        + (f" ({item.decision.at:%Y-%m-%d %H:%M}Z)" if item.decision.at < due.NEVER else "")
        for item in waiting
    )


def _changes(lineage: Lineage, spec: CertificateSpec) -> list[object]:
    """What is at the targets, whenever it was looked at last."""
    states = [lineage.targets.get(name, TargetState(name)) for name in spec.targets]
    return [(state.phase, state.version, state.serving, state.since) for state in states]


def _told(name: str, failure: Failure, earlier: Failure | None, retry_at: datetime | None) -> str:
    """What failed; and if it did so before this run, that nothing was tried now."""
    if failure != earlier or retry_at is None:
        return str(failure)
    when = due.STOPPED
    if retry_at < due.NEVER:
        when = f"not tried again before {retry_at:%Y-%m-%d %H:%M}Z"
    return f"{failure}; {when}: `certd renew {name}` tries at once"


def rehearse(config: Config, store: Store, names: Iterable[str], say: Say) -> list[Outcome]:
    """The whole path at the CA's staging directory; stores and deploys nothing.

    ``store`` lends its token journal only, so that a running daemon, which has the port,
    can answer the staging CA's questions.
    """
    outcomes: list[Outcome] = []
    specs, cas = {}, _staging(config.cas)
    for name in names:
        spec = config.certificates[name]
        first = config.cas[spec.cas[0]]
        if first.name in cas:
            staged_cas = tuple(ca for ca in spec.cas if ca in cas)
            specs[name] = replace(spec, targets=(), cas=staged_cas)
        else:
            text = _no_rehearsal(name, first)
            outcomes.append(Outcome(name, "failed" if first.acme else "nothing", text))
    if specs:
        empty = Store.in_memory()
        empty.tokens = store.tokens.apart("rehearsal ")
        empty.budgets = store.budgets  # those of DNS providers are the same
        empty.records = store.records.apart("rehearsal ")
        staged = replace(config, cas=cas, certificates=specs)
        node = Node(staged, empty, say, attended=True)
        try:
            empty.lineages.take_over(specs, "rehearsal")
            found = renew(node, specs, named=False, force=False)
        finally:
            node.stop()
            empty.close()
        for outcome in found:
            good = outcome.kind != "failed"
            text = "the staging CA issued it; nothing was kept" if good else outcome.text
            outcomes.append(replace(outcome, text=f"dry run: {text}"))
    return outcomes


def _no_rehearsal(name: str, ca: CASettings) -> str:
    if ca.local:
        return (
            f"dry run: nothing to rehearse: {ca.name} is certd's own CA, and has no limits: "
            f"`certd renew {name}` may be tried"
        )
    if ca.hub:
        return f"dry run: nothing to rehearse: it comes from {ca.name}, where it is ordered"
    if ca.unrehearsed:
        other = f"{ca.name}-staging"
        return (
            f"dry run: not tried: {ca.name}'s staging service takes other keys for eab; add "
            f'[ca.{other}] with directory = "{ca.staging}" and the eab from there, and try a '
            f'certificate with ca = ["{other}"]'
        )
    return (
        f"{ca.name} has no staging directory to rehearse at; if it offers one, add "
        f'staging = "https://…" to [ca.{ca.name}]'
    )


def _staging(cas: Mapping[str, CASettings]) -> dict[str, CASettings]:
    return {
        name: replace(settings, directory=settings.staging, limits=Limits())
        for name, settings in cas.items()
        if settings.staging and not settings.unrehearsed
    }
