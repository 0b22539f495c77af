"""What Airflow has to know of RingRift beyond its DAGs: their timetable and priority, the HTTP door, and its page."""

from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from ringrift_ops.airflow.priority import CurriculumPriority
from ringrift_ops.airflow.timetable import GenerationTimetable
from ringrift_ops.web.mount import Door

PAGE = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/") + "/ringrift/page"


class RingRiftPlugin(AirflowPlugin):
    """Found by Airflow in the plugins folder."""

    name = "ringrift"
    timetables = [GenerationTimetable]  # noqa: RUF012 - Airflow's own way
    priority_weight_strategies = [CurriculumPriority]  # noqa: RUF012
    fastapi_apps = [{"app": Door(), "url_prefix": "/ringrift", "name": "RingRift"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {"name": "RingRift", "href": PAGE, "destination": "nav", "url_route": "ringrift"},
        {"name": "RingRift", "href": PAGE + "?config={DAG_ID}", "destination": "dag", "url_route": "ringrift_config"},
    ]
