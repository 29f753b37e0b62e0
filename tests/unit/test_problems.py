"""Codes: the mapping is total, and every code of the contract is reached or explained."""

import itertools
import re
from pathlib import Path

import pytest

from events.codec import RecordTooLarge
from projections.state import Operation
from service import errors
from service.domain.decide import VERBS
from service.domain.rejections import Reason, Rejected
from service.web import problems
from service.web.problems import OWN_CODES, Action, Code

WEB = Path(problems.__file__).parent

EVERY = list(itertools.product(OWN_CODES, Reason))


def test_every_command_has_a_code_of_its_own() -> None:
    assert set(OWN_CODES) == set(VERBS.values())


@pytest.mark.parametrize(("action", "reason"), EVERY)
def test_every_refusal_of_every_action_has_a_code_and_a_status(
    action: Action, reason: Reason
) -> None:
    problem = problems.of_rejection(action, Rejected(reason, "why"))
    assert problem.code in Code
    assert 400 <= problem.status < 600
    assert (problem.reason, problem.message) == (reason.value, "why")
    internal = reason in (Reason.STALE_OUTCOME, Reason.NOTHING_NEW)
    assert internal == (problem.status >= 500), "a rule's refusal is no error of the service"


@pytest.mark.parametrize(
    ("action", "reason", "code", "status"),
    [
        (("replica_set", "run"), Reason.REPLICA_SET_EXISTS, 1008, 409),
        (("replica_set", "run"), Reason.GPUS_EXHAUSTED, 1013, 409),
        (("replica_set", "run"), Reason.PORTS_EXHAUSTED, 1014, 409),
        (("replica_set", "run"), Reason.VOLUME_NOT_FOUND, 1004, 404),
        (("replica_set", "patch"), Reason.REPLICA_SET_NOT_FOUND, 1007, 404),
        (("replica_set", "patch"), Reason.NOTHING_TO_PATCH, 1009, 422),
        (("replica_set", "patch"), Reason.BIND_NOT_FOUND, 1007, 422),
        (("replica_set", "patch"), Reason.ENV_NOT_FOUND, 1007, 422),
        (("replica_set", "run"), Reason.HOST_PATH_REFUSED, 1004, 422),
        (("replica_set", "pin"), Reason.REVISION_NOT_FOUND, 1108, 404),
        (("replica_set", "pin"), Reason.SYSTEM_DISK_GONE, 1102, 422),
        (("replica_set", "unpin"), Reason.REPLICA_SET_NOT_FOUND, 1109, 404),
        (("replica_set", "rollback"), Reason.REVISION_NOT_FOUND, 1021, 404),
        (("replica_set", "rollback"), Reason.ALREADY_AT_REVISION, 1022, 409),
        (("replica_set", "rollback"), Reason.SYSTEM_DISK_GONE, 1102, 422),
        (("replica_set", "stop"), Reason.REPLICA_SET_NOT_FOUND, 1010, 404),
        (("replica_set", "restart"), Reason.REPLICA_SET_NOT_FOUND, 1011, 404),
        (("replica_set", "pause"), Reason.STOPPED, 1018, 409),
        (("replica_set", "continue"), Reason.STOPPED, 1019, 409),
        (("replica_set", "commit"), Reason.REPLICA_SET_NOT_FOUND, 1015, 404),
        (("replica_set", "execute"), Reason.NOT_RUNNING, 1006, 409),
        (("replica_set", "delete"), Reason.REPLICA_SET_NOT_FOUND, 1005, 404),
        (("replica_set", "delete"), Reason.OPERATION_IN_PROGRESS, 1100, 409),
        (("replica_set", "run"), Reason.IDEMPOTENCY_KEY_REUSED, 1101, 422),
        (("volume", "create"), Reason.VOLUME_EXISTS, 1026, 409),
        (("volume", "resize"), Reason.SAME_SIZE, 1028, 422),
        (("volume", "resize"), Reason.VOLUME_NOT_FOUND, 1035, 404),
        (("volume", "delete"), Reason.VOLUME_NOT_FOUND, 1025, 404),
        (("volume", "delete"), Reason.VOLUME_IN_USE, 1103, 409),
    ],
)
def test_refusals_as_the_contract_has_them(
    action: Action, reason: Reason, code: int, status: int
) -> None:
    assert problems.code_of_reason(action, reason) == (code, status)


@pytest.mark.parametrize(
    ("action", "word", "code", "status"),
    [
        (("replica_set", "run"), "image_not_found", 1004, 422),
        (("replica_set", "run"), "bad_command", 1004, 422),
        (("replica_set", "run"), "port_taken", 1004, 409),
        (("replica_set", "run"), "no_space", 1004, 507),
        (("replica_set", "patch"), "no_space", 1007, 507),
        (("replica_set", "run"), "host_path_refused", 1004, 422),
        (("replica_set", "patch"), "a word that nobody knows", 1007, 502),
        (("replica_set", "execute"), "not_running", 1006, 409),
        (("replica_set", "commit"), "engine_unavailable", 1104, 503),
        (("volume", "resize"), "volume_below_used", 1030, 422),
        (("volume", "create"), "volume_store", 1023, 502),
    ],
)
def test_failed_operations(action: Action, word: str, code: int, status: int) -> None:
    kind, verb = action
    operation = Operation(
        "op-1", 1, verb, kind, "foo", 0, {}, reason=word, message="Docker's words"
    )
    problem = problems.of_failure(operation)
    assert (problem.code, problem.status) == (code, status)
    assert (problem.message, problem.reason) == ("Docker's words", word)
    assert problem.operation_id == "op-1"


@pytest.mark.parametrize("action", OWN_CODES)
@pytest.mark.parametrize("word", ["", "refused", *Reason])
def test_every_word_of_a_failure_has_a_code(action: Action, word: str) -> None:
    code, status = problems.code_of_failure(action, word)
    assert code in Code
    assert 400 <= status < 600


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (errors.EngineUnavailable("no Docker"), 1104, 503),
        (errors.EngineRefused("no"), 1104, 502),
        (errors.LedgerUnavailable("no log"), 1105, 503),
        (errors.LedgerConflict("twice"), 1105, 503),
        (errors.LedgerDamaged("gap"), 1105, 503),
        (errors.ServiceBusy("wait"), 500, 503),
        (errors.DeviceProbeError("lost"), 500, 500),
        (RecordTooLarge("600000 bytes"), 1000, 413),
    ],
)
def test_operational_errors(
    error: errors.GpuledgerError | RecordTooLarge, code: int, status: int
) -> None:
    problem = problems.of_error(error)
    assert (problem.code, problem.status) == (code, status)
    assert str(error) in problem.message


def test_every_code_is_given_by_something() -> None:
    """By a rule's refusal, or by name in the module that gives it (routes only list codes)."""
    given = {problems.code_of_reason(action, reason)[0] for action, reason in EVERY}
    lists = re.compile(r"^ROUTES = .*", re.DOTALL | re.MULTILINE)
    source = "".join(lists.sub("", path.read_text()) for path in WEB.glob("*.py"))
    named = {code for code in Code if f"Code.{code.name}" in source}
    assert set(Code) - named - given == set()


def test_the_contract_s_codes_are_all_there() -> None:
    assert {code.value for code in Code if code.value < 1100} == {200, 500, *range(1000, 1036)}
    assert all(code.meaning for code in Code)
