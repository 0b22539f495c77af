"""From a task in the UI to the host that its job runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


class HostLink(BaseOperatorLink):
    """Leads to the connection of the host; empty where the job runs on this machine."""

    name = "Host"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return where the operator's ``conn_id`` is shown."""
        conn_id = getattr(operator, "conn_id", None)
        return "" if conn_id is None else f"/connections?name_pattern={quote(conn_id)}"
