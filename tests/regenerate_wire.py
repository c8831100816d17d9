"""Generate hcp_pipelines/wire/edge_v1_pb2*.py from the .proto; `make docs` runs it, a unit test proves freshness."""

import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

WIRE = Path(__file__).resolve().parents[1] / "hcp_pipelines" / "wire"
NAMES = ("edge_v1_pb2.py", "edge_v1_pb2_grpc.py", "edge_v1_pb2.pyi")


def generate(folder: Path) -> None:
    include = files("grpc_tools").joinpath("_proto")
    arguments = [
        "",
        f"-I{WIRE}",
        f"-I{include}",
        f"--python_out={folder}",
        f"--grpc_python_out={folder}",
        f"--pyi_out={folder}",
    ]
    code = protoc.main([*arguments, str(WIRE / "edge_v1.proto")])
    if code:
        raise SystemExit(f"protoc failed with {code}")
    grpc_file = folder / "edge_v1_pb2_grpc.py"
    text = grpc_file.read_text()
    grpc_file.write_text(text.replace("import edge_v1_pb2 as", "from hcp_pipelines.wire import edge_v1_pb2 as"))


def main() -> None:
    generate(WIRE)


def is_fresh() -> bool:
    with tempfile.TemporaryDirectory() as name:
        generate(Path(name))
        return all((Path(name) / each).read_text() == (WIRE / each).read_text() for each in NAMES)


if __name__ == "__main__":
    main()
