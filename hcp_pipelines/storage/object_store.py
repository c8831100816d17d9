"""Where the lake's files lie, a folder or an S3-compatible store, and what a DuckDB session must be told of the latter.

The keys are in a secret of the session's memory, which DuckDB shows to nobody; they are never logged.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.settings import Settings

AWS_ENDPOINT = "s3.amazonaws.com"
SECRET_NAME = "hcp_lake"  # noqa: S105 - a name


def is_remote(settings: Settings) -> bool:
    """Whether the lake's files lie in an object store."""
    return bool(settings.lake_url)


def data_path(settings: Settings) -> str:
    """Where the Parquet files lie, with a slash at the end."""
    return f"{settings.lake_url or settings.at('lake')}/"


def extensions(settings: Settings) -> tuple[str, ...]:
    """DuckDB extensions that the lake's files need: none for a folder; `aws` looks for keys where none are given."""
    return ("httpfs", "aws") if is_remote(settings) else ()


def statements(settings: Settings, *, with_keys: bool = True) -> Iterator[str]:
    """What a session executes before it attaches the lake. The last one holds the keys: never log it.

    Without `with_keys` the session looks for keys of its own, as AWS's tools do.

    Raises:
        ConfigError: half of the keys is missing, or their file is.
    """
    if not is_remote(settings):
        return
    has_keys = with_keys and bool(settings.lake_s3_key_id)
    yield "load httpfs"
    if not has_keys:
        yield "load aws"
    yield from (
        f"set {name} = true" for name in ("enable_server_cert_verification", "enable_curl_server_cert_verification")
    )
    if settings.lake_s3_ca_file:
        yield f"set ca_cert_file = {quoted(str(settings.lake_s3_ca_file))}"
    options = keys(settings) if has_keys else {"provider": "credential_chain"}
    pairs = (f"{name} {quoted(value)}" for name, value in {**options, **place(settings)}.items())
    yield f"create or replace secret {SECRET_NAME} (type s3, {', '.join(pairs)})"


def place(settings: Settings) -> dict[str, str]:
    """Which store, by the names of DuckDB's S3 secret. Stores other than AWS's are asked by path: their hosts know no buckets."""
    endpoint = urlsplit(settings.lake_s3_endpoint)
    return {
        "scope": data_path(settings),
        "region": settings.lake_s3_region,
        "endpoint": endpoint.netloc or AWS_ENDPOINT,
        "url_style": "path" if endpoint.netloc else "vhost",
        "use_ssl": "false" if endpoint.scheme == "http" else "true",
    }


def keys(settings: Settings) -> dict[str, str]:
    """The key and its secret, from the environment or from the file."""
    secret = settings.lake_s3_secret.get_secret_value() if settings.lake_s3_secret else ""
    if settings.lake_s3_secret_file is not None:
        try:
            secret = settings.lake_s3_secret_file.read_text().strip()
        except OSError as error:
            raise ConfigError(f"HCP_LAKE_S3_SECRET_FILE={settings.lake_s3_secret_file}: {error.strerror}") from None
    if not secret:
        raise ConfigError(
            f"HCP_LAKE_S3_KEY_ID={settings.lake_s3_key_id!r} has no secret: set HCP_LAKE_S3_SECRET_FILE to a file that holds it."
        )
    return {"key_id": settings.lake_s3_key_id, "secret": secret}


def filesystem(settings: Settings) -> Any:
    """The store as a `pyarrow.fs.FileSystem`, with the lake's keys: for files that are no tables.

    Raises:
        ConfigError: half of the keys is missing, or their file is.
    """
    from pyarrow.fs import S3FileSystem  # it starts AWS's own threads

    where = place(settings)
    found = keys(settings) if settings.lake_s3_key_id else {}
    return S3FileSystem(
        access_key=found.get("key_id"), secret_key=found.get("secret"), region=where["region"],
        endpoint_override=where["endpoint"] if settings.lake_s3_endpoint else None,
        scheme="https" if where["use_ssl"] == "true" else "http",
        tls_ca_file_path=str(settings.lake_s3_ca_file) if settings.lake_s3_ca_file else None,
    )  # fmt: skip


def quoted(text: str) -> str:
    """A text as SQL has it.

    >>> quoted("/srv/o'brien/lake")
    "'/srv/o''brien/lake'"
    """
    return "'" + text.replace("'", "''") + "'"
