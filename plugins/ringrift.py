"""What Airflow has to know of RingRift beyond its DAGs: their timetable, and the priority of their tasks."""

from airflow.plugins_manager import AirflowPlugin

from ringrift_ops.airflow.priority import CurriculumPriority
from ringrift_ops.airflow.timetable import GenerationTimetable


class RingRiftPlugin(AirflowPlugin):
    """Found by Airflow in the plugins folder."""

    name = "ringrift"
    timetables = [GenerationTimetable]  # noqa: RUF012 - Airflow's own way
    priority_weight_strategies = [CurriculumPriority]  # noqa: RUF012
