"""Reads the published traces as samples: instants of arrival and sizes by family, oldest first. No arithmetic of fits here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from simulators.streams import FloatArray
from simulators.workloads.fitted import Quantity
from simulators.workloads.sizes import LONGEST_S

DENSE_FROM_S: Final = 10.1e6  # of the tasks' trace: before it stand only those that outlived the months in between
INPUT_MOST: Final = 131_072.0  # a context
OUTPUT_MOST: Final = 16_384.0


@dataclass(frozen=True)
class Sample:
    """One family's trace. Sizes are empty (NaN) where the trace has none of a row; `window_s` suits its density."""

    source: str
    licence: str
    times: FloatArray
    sizes: dict[Quantity, FloatArray]
    most: dict[Quantity, float]
    window_s: int


def samples(traces: Path) -> dict[str, Sample]:
    """By family."""
    return {name: read(traces) for name, read in _READERS.items()}


def image_customers(traces: Path) -> list[str]:
    """The customer of each image request, in order."""
    return _images(traces)["groupId"].to_list()


def gpus_of_whole_tasks(traces: Path) -> dict[int, int]:
    """How many tasks had so many whole GPUs."""
    counts = _tasks(traces, is_whole=True)["num_gpu"].value_counts().rows()
    return {int(gpus): int(count) for gpus, count in sorted(counts)}


def _azure(kind: str) -> Callable[[Path], Sample]:
    def read(traces: Path) -> Sample:
        name = f"azure_llm_2023_{kind}_first_half.parquet"
        frame = pl.read_parquet(traces / name).sort("arrival_utc")
        return Sample(
            f"Azure LLM inference trace 2023, {kind}: Patel et al., Splitwise, ISCA 2024 (first half hour, 2023-11)",
            "CC BY 4.0",
            frame["arrival_utc"].dt.epoch("us").to_numpy() / 1e6,
            {"input_tokens": _floats(frame["context_tokens"]), "output_tokens": _floats(frame["generated_tokens"])},
            {"input_tokens": INPUT_MOST, "output_tokens": OUTPUT_MOST},
            60 if kind == "conv" else 5,
        )

    return read


def _images(traces: Path) -> pl.DataFrame:
    return pl.read_parquet(traces / "alibaba_genai_v2026_requests_first_half.parquet").sort("request_time")


def _image_requests(traces: Path) -> Sample:
    frame = _images(traces)
    done = frame.select(pl.when(pl.col("predict_status") == "SUCCEED").then(pl.col("exec_time_seconds")))
    return Sample(
        "Alibaba GenAI request trace v2026, image generation (two weeks, 2024-11, stamps shifted by the publisher)",
        "none stated",
        frame["request_time"].dt.epoch("us").to_numpy() / 1e6,
        {"duration_s": _floats(done.to_series())},
        {"duration_s": LONGEST_S},
        600,
    )


def _tasks(traces: Path, *, is_whole: bool) -> pl.DataFrame:
    frame = pl.read_parquet(traces / "alibaba_gpu_v2023_pods.parquet").sort("creation_s")
    milli = pl.col("gpu_milli")
    return frame.filter(
        (pl.col("creation_s") > DENSE_FROM_S) & (pl.col("num_gpu") >= 1) & (milli == 1000 if is_whole else milli < 1000)
    )


def _tasks_reader(*, is_whole: bool) -> Callable[[Path], Sample]:
    def read(traces: Path) -> Sample:
        frame = _tasks(traces, is_whole=is_whole)
        ran = frame["deletion_s"] - frame["scheduled_s"]
        what = "whole GPUs" if is_whole else "a share of a GPU"
        return Sample(
            f"Alibaba GPU cluster trace v2023, tasks that hold {what} (its last month)", "none stated",
            frame["creation_s"].to_numpy().astype(float), {"duration_s": _floats(ran)}, {"duration_s": LONGEST_S}, 3600,
        )  # fmt: skip

    return read


def _recommenders(traces: Path) -> Sample:
    frame = pl.read_parquet(traces / "alibaba_gpu_v2025_dlrm_instances.parquet")
    frame = frame.filter(pl.col("creation_time") > 0).sort("creation_time")
    served = frame["deletion_time"] - frame["scheduled_time"]
    return Sample(
        "Alibaba GPU trace v2025, instances that serve recommendation models (31 days)", "none stated",
        frame["creation_time"].to_numpy(), {"duration_s": _floats(served)}, {"duration_s": LONGEST_S}, 3600,
    )  # fmt: skip


def _floats(column: pl.Series) -> FloatArray:
    """Nulls as NaN."""
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


_READERS: Final[dict[str, Callable[[Path], Sample]]] = {
    "chat": _azure("conv"),
    "code": _azure("code"),
    "recommender": _recommenders,
    "images": _image_requests,
    "jobs": _tasks_reader(is_whole=False),
    "training": _tasks_reader(is_whole=True),
}
