"""The JSON Schemas of the documents that the program reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_exe.domain.certificate import MaskCertificate
from finetune_exe.domain.checkpoint import CheckpointManifest
from finetune_exe.domain.checkup import Checkup
from finetune_exe.domain.cleaning import CleaningPreview
from finetune_exe.domain.comparison import ForeseenComparison, PairedResult
from finetune_exe.domain.dataset import CheckReport, PreparedDataset
from finetune_exe.domain.diagnosis import Diagnosis
from finetune_exe.domain.document import Document
from finetune_exe.domain.evaluation import Evaluation
from finetune_exe.domain.forecast import LossForecast
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.domain.shipment import Shipment
from finetune_exe.domain.task import TaskSpec
from finetune_exe.domain.tuning import StudyDesign, Tuning

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DOCUMENTS: Mapping[str, type[Document]] = {
    "task": TaskSpec,
    "plan": Plan,
    "check": CheckReport,
    "cleaning": CleaningPreview,
    "dataset": PreparedDataset,
    "certificate": MaskCertificate,
    "checkpoint": CheckpointManifest,
    "run": TrainingRun,
    "evaluation": Evaluation,
    "comparison": PairedResult,
    "foreseen": ForeseenComparison,
    "forecast": LossForecast,
    "study": StudyDesign,
    "tuning": Tuning,
    "diagnosis": Diagnosis,
    "shipment": Shipment,
    "checkup": Checkup,
}
"""By the name that `fine-tune schema` gives them."""


EVENT = "event"
"""The name of one line of `events.jsonl`, which is no document."""


def document_schema(name: str) -> dict[str, Any]:
    """Give the JSON Schema of a document as it is written, by its name in `DOCUMENTS`, or that of an event."""
    if name == EVENT:
        import msgspec

        from finetune_exe.domain.events import AnyEvent

        return {"$schema": DIALECT, **msgspec.json.schema(AnyEvent)}
    schema = DOCUMENTS[name].model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": DIALECT, **schema}
