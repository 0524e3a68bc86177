"""The vendor's own client, unmodified, in a process of its own: a JSON line in, a JSON line out.

The first line says who calls: `url`, `access_key`, `secret_key`, `security_token` or null, and
`project_id`, or null for a client that asks IAM for the project of its region; with `metadata` it
takes the keys of the ECS instead. Each further line is a call and its arguments:

    {"call": "rolling", "cluster_id": "…", "type": "role", "value": "all"}

and is answered with status and body, or with status, code, text and request id of the exception.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.auth.internal import MetadataAccessor
from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkcss import v1, v2

Arguments = Mapping[str, Any]


class Client:
    """Clients for both versions of the service's API, with the same credentials."""

    def __init__(self, who: Arguments) -> None:
        self.v1 = self._built(v1.CssClient, who)
        self.v2 = self._built(v2.CssClient, who)
        self.calls: Mapping[str, Callable[..., Any]] = {
            "restart": self._restart,
            "restart_part": self._restart_part,
            "rolling": self._rolling,
            "reboot": self._reboot,
            "detail": self._detail,
            "list": self._list,
        }

    def _built(self, kind: Any, who: Arguments) -> Any:
        config = HttpConfig.get_default_config()
        config.timeout = (3, 10)
        credentials = _credentials(who)
        builder = kind.new_builder().with_http_config(config).with_credentials(credentials)
        if who["project_id"] is None:
            return builder.with_region(Region("cn-north-4", who["url"])).build()
        return builder.with_endpoint(who["url"]).build()

    def _restart(self, cluster_id: str) -> Any:
        return self.v1.restart_cluster(v1.RestartClusterRequest(cluster_id=cluster_id))

    def _restart_part(self, cluster_id: str, **part: str) -> Any:
        body = v2.RestartClusterReq(**part)
        return self.v2.restart_cluster(v2.RestartClusterRequest(cluster_id=cluster_id, body=body))

    def _rolling(self, cluster_id: str, **part: str) -> Any:
        body = v2.RollingRestartReq(**part)
        return self.v2.rolling_restart(v2.RollingRestartRequest(cluster_id=cluster_id, body=body))

    def _reboot(self, cluster_id: str) -> Any:
        return self.v1.reboot_cluster(v1.RebootClusterRequest(cluster_id=cluster_id))

    def _detail(self, cluster_id: str) -> Any:
        return self.v1.show_cluster_detail(v1.ShowClusterDetailRequest(cluster_id=cluster_id))

    def _list(self, **page: Any) -> Any:
        return self.v1.list_clusters_details(v1.ListClustersDetailsRequest(**page))


def _credentials(who: Arguments) -> Any:
    key = who["access_key"], who["secret_key"], who["security_token"]
    if who["metadata"]:

        class Accessor(MetadataAccessor):  # type: ignore[misc]
            _METADATA_ENDPOINT = who["url"]

        found = Accessor().get_credential()
        key = found.access, found.secret, found.security_token
    credentials = BasicCredentials(key[0], key[1], who["project_id"])
    credentials.with_iam_endpoint(who["url"])
    return credentials.with_security_token(key[2]) if key[2] is not None else credentials


def _answer(call: Callable[..., Any], arguments: Arguments) -> dict[str, Any]:
    try:
        response = call(**arguments)
    except ServiceResponseException as exc:
        return {
            "status": exc.status_code,
            "code": exc.error_code,
            "text": exc.error_msg,
            "request_id": exc.request_id,
        }
    # What its models understood of the answer, not what was sent.
    body = response.to_dict() if response.raw_content else None
    return {"status": response.status_code, "body": body, "raw": response.raw_content.decode()}


def main() -> None:
    """Answer lines until there are no more."""
    client: Client | None = None
    for line in sys.stdin:
        arguments = json.loads(line)
        if client is None:
            client = Client(arguments)
            continue
        answer = _answer(client.calls[arguments.pop("call")], arguments)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
