"""Retries: `http[].retries`, MeshConfig's defaults (VS-049…056, MESH-027, MESH-028)."""

from functools import cache
from http import HTTPStatus

from envoy.config.route.v3 import route_components_pb2 as routes
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2 as priorities
from google.protobuf import wrappers_pb2

from pypilot.compile.messages import duration, pack
from pypilot.kinds.virtual_service import HTTPRetry

DEFAULT_ATTEMPTS = 2
DEFAULT_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
DEFAULT_INBOUND_RETRY_ON = "reset-before-request"
STATUS_CODES = "retriable-status-codes"
HOST_SELECTION_ATTEMPTS = 5


@cache
def _previous_hosts() -> routes.RetryPolicy.RetryHostPredicate:
    return routes.RetryPolicy.RetryHostPredicate(
        name="envoy.retry_host_predicates.previous_hosts",
        typed_config=pack(previous_hosts_pb2.PreviousHostsPredicate()),
    )


@cache
def _previous_priorities() -> routes.RetryPolicy.RetryPriority:
    return routes.RetryPolicy.RetryPriority(
        name="envoy.retry_priorities.previous_priorities",
        typed_config=pack(priorities.PreviousPrioritiesConfig(update_frequency=2)),
    )


def _is_status(word: str) -> bool:
    try:
        HTTPStatus(int(word))
    except ValueError:
        return False
    return True


def _set_retry_on(policy: routes.RetryPolicy, text: str) -> None:
    """Numbers that are HTTP statuses become codes; the token that makes Envoy look at them is added (VS-053)."""
    words = [word for part in text.split(",") if (word := part.strip())]
    policy.retriable_status_codes.extend(int(word) for word in words if _is_status(word))
    conditions = ",".join(word for word in words if not _is_status(word))
    if policy.retriable_status_codes and STATUS_CODES not in conditions:
        conditions += f",{STATUS_CODES}"  # Envoy skips the empty word in front, as Istio leaves it there
    policy.retry_on = conditions


def retry_policy(retries: HTTPRetry | None, hashed: bool = False) -> routes.RetryPolicy | None:
    """The policy of an outbound route; None where retries are turned off (VS-051).

    `hashed`: the destination is chosen by consistent hash, so a retry may go to the same host (VS-050).
    """
    policy = routes.RetryPolicy(
        num_retries=wrappers_pb2.UInt32Value(value=DEFAULT_ATTEMPTS),
        retry_on=DEFAULT_RETRY_ON,
        host_selection_retry_max_attempts=HOST_SELECTION_ATTEMPTS,
        retry_host_predicate=[] if hashed else [_previous_hosts()],
    )
    if retries is None:
        return policy
    if retries.attempts <= 0:
        return None
    policy.num_retries.value = retries.attempts
    if retries.retry_on:
        _set_retry_on(policy, retries.retry_on)
    if retries.per_try_timeout is not None and retries.per_try_timeout.nanos >= 0:
        policy.per_try_timeout.CopyFrom(duration(retries.per_try_timeout))
    if retries.retry_ignore_previous_hosts is not None:
        del policy.retry_host_predicate[:]
        if retries.retry_ignore_previous_hosts:
            policy.retry_host_predicate.append(_previous_hosts())
    if retries.retry_remote_localities:
        policy.retry_priority.CopyFrom(_previous_priorities())
    _set_backoff(policy, retries)
    return policy


def _set_backoff(policy: routes.RetryPolicy, retries: HTTPRetry) -> None:
    if retries.backoff is not None and retries.backoff.nanos > 0:  # Envoy rejects 0s
        policy.retry_back_off.base_interval.CopyFrom(duration(retries.backoff))


def inbound_retry_policy(retries: HTTPRetry | None, grpc: bool) -> routes.RetryPolicy | None:
    """The policy of an inbound route: requests that never reached the application; never for gRPC (VS-056)."""
    if grpc or (retries is not None and retries.attempts <= 0):
        return None
    policy = routes.RetryPolicy(
        num_retries=wrappers_pb2.UInt32Value(value=DEFAULT_ATTEMPTS), retry_on=DEFAULT_INBOUND_RETRY_ON
    )
    if retries is None:
        return policy
    policy.num_retries.value = retries.attempts
    if retries.retry_on:
        _set_retry_on(policy, retries.retry_on)
    _set_backoff(policy, retries)
    return policy
