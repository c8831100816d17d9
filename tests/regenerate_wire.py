"""Generate hcp_pipelines/wire/*_pb2*.py from the .proto files; `make docs` runs it, a unit test proves freshness."""

import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

WIRE = Path(__file__).resolve().parents[1] / "hcp_pipelines" / "wire"
CONTRACTS = ("edge_v1", "telemetry_v1")
WITH_STUBS = ("edge_v1",)  # telemetry's messages go out as the bytes that they are kept as
NAMES = [name + end for name in CONTRACTS for end in ("_pb2.py", "_pb2.pyi")] + [
    f"{name}_pb2_grpc.py" for name in WITH_STUBS
]


def generate(folder: Path) -> None:
    include = files("grpc_tools").joinpath("_proto")
    for out, names in ((("python", "pyi"), CONTRACTS), (("grpc_python",), WITH_STUBS)):
        into = [f"--{kind}_out={folder}" for kind in out]
        code = protoc.main(["", f"-I{WIRE}", f"-I{include}", *into, *(str(WIRE / f"{name}.proto") for name in names)])
        if code:
            raise SystemExit(f"protoc failed with {code}")
    for name in WITH_STUBS:
        grpc_file = folder / f"{name}_pb2_grpc.py"
        text = grpc_file.read_text()
        grpc_file.write_text(text.replace(f"import {name}_pb2 as", f"from hcp_pipelines.wire import {name}_pb2 as"))


def main() -> None:
    generate(WIRE)


def is_fresh() -> bool:
    with tempfile.TemporaryDirectory() as name:
        generate(Path(name))
        return all((Path(name) / each).read_text() == (WIRE / each).read_text() for each in NAMES)


if __name__ == "__main__":
    main()
