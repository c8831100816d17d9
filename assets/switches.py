"""The dbt project as assets: staging → core → marts on the lake. The SQL is in dbt/models."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_dbt import (
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtCliResource,
    DbtProject,
    dbt_assets,
)

from hcp_pipelines.orchestration.dbt_project import (
    PROJECT,
    dbt_executable,
    manifest_path,
    target_dir,
    target_name,
)
from hcp_pipelines.orchestration.mart_sources import ensure_sources
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.lake import install_extensions

SETTINGS = Settings.load()
GROUP_OF_FOLDER = {"staging": "switches", "core": "switches", "marts": "marts"}


class Translator(DagsterDbtTranslator):
    """Keys as the models are called; a group a layer."""

    def __init__(self) -> None:
        """Two tables may be of one asset."""
        super().__init__(settings=DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True))

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """The model's name, or what a source's metadata says."""
        if dbt_resource_props["resource_type"] == "model":
            return dg.AssetKey(dbt_resource_props["name"])
        return super().get_asset_key(dbt_resource_props)

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """By folder."""
        return GROUP_OF_FOLDER.get(dbt_resource_props["fqn"][1])


dbt_project = DbtProject(project_dir=PROJECT, target_path=target_dir(SETTINGS), profiles_dir=PROJECT)
dbt_cli = DbtCliResource(
    project_dir=str(PROJECT), profiles_dir=str(PROJECT), dbt_executable=dbt_executable(), target=target_name(SETTINGS)
)


@dbt_assets(manifest=manifest_path(SETTINGS), project=dbt_project, dagster_dbt_translator=Translator(), name="switches")
def switch_models(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    """Build and test the models: mostly views over the copied rows, as fresh as the copy; what grows is incremental."""
    install_extensions(SETTINGS)
    ensure_sources(SETTINGS)
    yield from dbt.cli(["build"], context=context, target_path=target_dir(SETTINGS) / "runs").stream()
