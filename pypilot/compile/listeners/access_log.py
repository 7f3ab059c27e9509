"""Access logs to a file as MeshConfig orders them (TEL-003…007, TEL-013…015, LIS-032)."""

import json
from typing import TypeAlias

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import substitution_format_string_pb2 as format_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.formatter.req_without_query.v3 import req_without_query_pb2
from google.protobuf import json_format, struct_pb2

from pypilot.compile.messages import pack
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.world.reader import Reader

AccessLog: TypeAlias = accesslog_pb2.AccessLog

TEXT_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" '
    '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" '
    '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% '
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% "
    "%ROUTE_NAME%\n"
)
"""The default line (TEL-004)."""

JSON_FORMAT = {
    "authority": "%REQ(:AUTHORITY)%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "duration": "%DURATION%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "response_code": "%RESPONSE_CODE%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "response_flags": "%RESPONSE_FLAGS%",
    "route_name": "%ROUTE_NAME%",
    "start_time": "%START_TIME%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "user_agent": "%REQ(USER-AGENT)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
}
"""The default object (TEL-006)."""

_WITHOUT_QUERY = "%REQ_WITHOUT_QUERY"
_NO_CHAIN = "NR"
_UPSTREAM_FAILURE = "UF"
_FIRST_ERROR = 400


def _json_object(text: str) -> struct_pb2.Struct:
    """The user's format if it is a JSON object, else the default (TEL-007)."""
    try:
        data = json.loads(text) if text else JSON_FORMAT
        json.dumps(data, allow_nan=False)
        return json_format.ParseDict(data, struct_pb2.Struct())
    except (ValueError, RecursionError, json_format.ParseError):
        return json_format.ParseDict(JSON_FORMAT, struct_pb2.Struct())


def _format(mesh: MeshConfig) -> format_pb2.SubstitutionFormatString:
    text = mesh.access_log_format
    made = format_pb2.SubstitutionFormatString()
    if mesh.access_log_encoding == "JSON":
        made.json_format.CopyFrom(_json_object(text))
        made.json_format_options.SetInParent()
    else:
        line = text or TEXT_FORMAT
        made.text_format_source.inline_string = line if line.endswith("\n") else line + "\n"
    uses_query = _WITHOUT_QUERY in (str(made.json_format) if made.HasField("json_format") else text)
    if uses_query:
        formatter = made.formatters.add(name="envoy.formatter.req_without_query")
        formatter.typed_config.CopyFrom(pack(req_without_query_pb2.ReqWithoutQuery()))
    return made


def _file_log(reader: Reader) -> AccessLog | None:
    mesh = reader.mesh()
    if not mesh.access_log_file:
        return None
    log = file_pb2.FileAccessLog(path=mesh.access_log_file, log_format=_format(mesh))
    return AccessLog(name="envoy.access_loggers.file", typed_config=pack(log))


def _only(log: AccessLog | None, flag: str) -> list[AccessLog]:
    if log is None:
        return []
    limited = AccessLog()
    limited.CopyFrom(log)
    limited.filter.response_flag_filter.flags.append(flag)
    return [limited]


def access_logs(reader: Reader) -> list[AccessLog]:
    """For connection managers and TCP proxies."""
    log = reader.call(_file_log)
    return [] if log is None else [log]


def listener_access_logs(reader: Reader) -> list[AccessLog]:
    """For listeners: only connections that no filter chain matches, which nothing else would log (LIS-032)."""
    return [] if reader.mesh().disable_envoy_listener_log else _only(reader.call(_file_log), _NO_CHAIN)


def tunnel_end_access_logs(reader: Reader) -> list[AccessLog]:
    """For the end of an HBONE tunnel: only refusals."""
    log = reader.call(_file_log)
    if log is None:
        return []
    limited = AccessLog()
    limited.CopyFrom(log)
    comparison = limited.filter.status_code_filter.comparison
    comparison.op = accesslog_pb2.ComparisonFilter.GE
    comparison.value.default_value = _FIRST_ERROR
    comparison.value.runtime_key = "istio.io/unset"
    return [limited]


def tunnel_access_logs(reader: Reader) -> list[AccessLog]:
    """For the start of an HBONE tunnel: only failures to connect (TEL-014)."""
    return _only(reader.call(_file_log), _UPSTREAM_FAILURE)
