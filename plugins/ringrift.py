"""What Airflow has to know of RingRift beyond its DAGs: the timetable that their schedules are stored as."""

from airflow.plugins_manager import AirflowPlugin

from ringrift_ops.airflow.timetable import GenerationTimetable


class RingRiftPlugin(AirflowPlugin):
    """Found by Airflow in the plugins folder."""

    name = "ringrift"
    timetables = [GenerationTimetable]  # noqa: RUF012 - Airflow's own way
