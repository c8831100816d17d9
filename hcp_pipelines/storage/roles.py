"""The database roles and databases: who may do what is in `migrations/0002` and `bootstrap.py`."""

from enum import StrEnum


class Role(StrEnum):
    """A login of the platform; each process has the one with the least rights that do."""

    ADMIN = "hcp_admin"
    FEED = "hcp_feed"
    CONTROL = "hcp_control"
    ALLOCATOR = "hcp_allocator"
    API = "hcp_api"
    OPERATOR = "hcp_operator"  # commands that order or look, and the alerts
    COLLECTOR = "hcp_collector"
    FLEET = "hcp_fleet"
    SCHEDULER = "hcp_scheduler"
    DAGSTER = "dagster"
    LAKE_WRITER = "lake_writer"
    LAKE_READER = "lake_reader"
    MLFLOW = "hcp_mlflow"  # who records how models were learnt


class Database(StrEnum):
    """The databases (DESIGN §4), and the record of how models were learnt."""

    HCP = "hcp"
    DAGSTER = "dagster"
    LAKE = "lake"
    MLFLOW = "mlflow"


HOME_DATABASE = {
    Role.DAGSTER: Database.DAGSTER,
    Role.LAKE_WRITER: Database.LAKE,
    Role.LAKE_READER: Database.LAKE,
    Role.MLFLOW: Database.MLFLOW,
}
