"""Documents with true-looking values, by hand, that the report tests share."""

from __future__ import annotations

from finetune_exe.domain.checkup import Checkup, Package, Part, RunState, SelfTest
from finetune_exe.domain.dataset import (
    Alteration,
    Drop,
    Fertility,
    LengthChoice,
    MaskProof,
    PreparedDataset,
    SourceFile,
    Split,
    TokenReport,
)
from finetune_exe.domain.diagnosis import Diagnosis, Evidence, Finding
from finetune_exe.domain.evaluation import Comparison, Evaluation, Generation, Sample, SuiteResult
from finetune_exe.domain.plan import (
    BaseModelChoice,
    Batch,
    Candidate,
    Considered,
    DataChoice,
    DataNeeds,
    Lora,
    MethodOption,
    Optimizer,
    Plan,
    Schedule,
    Task,
)
from finetune_exe.domain.run import EvaluationPoint, Score, TrainingRun
from finetune_exe.domain.task import DataProfile
from finetune_exe.domain.values import Check, Decision, Estimate, Gpu, Hardware, Interval

GIB = float(1 << 30)
MACHINE = Hardware(cpu="AMD EPYC 9B14", num_cores=2, memory_bytes=16 << 30, cpu_features=("avx2", "avx512_bf16"))

COMMANDS = ("fine-tune dataset --plan plan.yaml", "fine-tune train plan.yaml", "fine-tune eval runs/docstrings")
CONFIG = 'from peft import LoraConfig\n\nadapter = LoraConfig(r=16, target_modules="all-linear")\n'


SHORTLIST = (
    Candidate(
        reference="embedded",
        name="SmolLM2-135M-Instruct",
        num_parameters=134_515_008,
        license="Apache-2.0",
        chosen=True,
        reasons=("it is here already", "trains in minutes on a processor", "no conditions", "small"),
    ),
    Candidate(
        reference="Qwen/Qwen3-0.6B",
        name="Qwen3-0.6B",
        num_parameters=596_049_920,
        license="Apache-2.0",
        chosen=False,
        reasons=("against: hours on a processor",),
    ),
)
METHODS = (
    MethodOption(
        kind="full",
        memory=Interval(low=4e9, mid=5e9, high=6e9),
        tokens_per_second=None,
        quality="GSM8K 47.2",
        use_case="production models",
        fits=False,
        chosen=False,
    ),
    MethodOption(
        kind="lora",
        memory=Interval(low=1e9, mid=2e9, high=3e9),
        tokens_per_second=Interval(low=200, mid=300, high=400),
        quality="GSM8K 47.8",
        use_case="most tasks",
        fits=True,
        chosen=True,
    ),
)
CONSIDERED = tuple(
    Considered(
        method="lora",
        memory_bytes=memory,
        tokens_per_second=pace,
        verdict=verdict,
        settings={
            "method.kind": "lora",
            "batch.micro_batch_size": rows,
            "batch.gradient_accumulation_steps": 8 // rows,
            "precision.gradient_checkpointing": rows == 8,
            "optimizer.kind": "adamw",
            "parallelism.kind": "none",
            "parallelism.num_gpus": 1,
            "data.max_length": 512,
        },
    )
    for rows, memory, pace, verdict in (
        (4, 3e9, 300.0, "chosen"),
        (8, 2e9, 210.0, "slower"),
        (2, 9e11, None, "too large"),
    )
)


def _decision(value: object, reason: str, source: str, **more: object) -> Decision:
    return Decision.model_validate({"value": value, "reason": reason, "source": source, "confidence": "high", **more})


def plan() -> Plan:
    """A LoRA plan on a CPU, with one setting changed by the user and one check not measured."""
    return Plan(
        task=Task(
            description="write the one-line docstring of a Python function",
            type="code",
            evidence=("the description names Python", "prompts hold code blocks"),
        ),
        model=BaseModelChoice(
            reference="embedded", name="SmolLM2-135M-Instruct", num_parameters=134_515_008, license="Apache-2.0"
        ),
        data=DataChoice(paths=("stdlib",), group_by="module", max_length=512),
        method=Lora(lora_rank=16),
        optimizer=Optimizer(learning_rate=1e-3),
        schedule=Schedule(epochs=2.0),
        batch=Batch(micro_batch_size=4, gradient_accumulation_steps=2),
        hardware=MACHINE,
        shortlist=SHORTLIST,
        methods=METHODS,
        considered=CONSIDERED,
        profile=DataProfile(
            format="chatml",
            format_evidence=("every row has messages",),
            num_rows=5012,
            num_unreadable=0,
            num_turns_mean=2.0,
            prompt_characters_p50=410,
            answer_characters_p50=48,
            answer_characters_p95=90,
            row_characters_mean=640.0,
            row_characters_p99=2300,
            distinct_answers=4700,
            group_by="module",
        ),
        data_needs=DataNeeds(
            minimum_samples=50,
            recommended_samples=1000,
            reason="improvement starts at 50 to 100 rows",
            source="OpenAI fine-tuning guide",
            quality_checks=(
                "every answer ends in its stop token",
                "no module on both sides of the split",
                "duplicates removed",
            ),
        ),
        estimates={
            "memory": Estimate(
                value=Interval(low=1.6 * GIB, mid=1.9 * GIB, high=2.4 * GIB), unit="bytes", reason="r", source="s"
            ),
            "duration": Estimate(
                value=Interval(low=200.0, mid=250.0, high=340.0), unit="seconds", reason="r", source="s"
            ),
        },
        readiness=(
            Check(name="memory", passed=True, detail="2.40 GiB of 16.0 GiB"),
            Check(name="data size", passed=True, detail="5,012 rows"),
            Check(name="licence", passed=None, detail="not looked at"),
        ),
        notes=("The machine has no GPU: the run is sized for two cores.",),
        decisions={
            "model.reference": _decision("embedded", "runs on this machine within minutes", "default"),
            "method.kind": _decision(
                "lora", "as good as full fine-tuning below a million learned tokens", "LoRA Without Regret, 2025"
            ),
            "data.paths": _decision(("stdlib",), "given", "you"),
            "data.group_by": _decision("module", "functions of one module resemble each other", "your data"),
            "data.max_length": _decision(512, "holds 99 % of the rows", "your data"),
            "optimizer.learning_rate": _decision(
                4.9e-4,
                "ten times the full fine-tuning rate, falling with the model's width",
                "LoRA Without Regret, 2025",
                interval=Interval(low=1e-4, mid=4.9e-4, high=1e-3),
            ),
            "schedule.epochs": _decision(2.0, "one to three suit this many rows", "Unsloth guide", confidence="low"),
            "batch.gradient_accumulation_steps": _decision(
                2, "an effective batch of 8 leaves 1,000 steps", "Tinker cookbook"
            ),
        },
    )


def split(rows: int, *, groups: int, tokens: int, learned: int, lengths: tuple[int, int, int]) -> Split:
    """One side of a split; lengths are the median, the 95th percentile and the longest."""
    return Split(
        num_rows=rows, num_groups=groups, num_sequences=rows, num_tokens=tokens, num_learned_tokens=learned,
        length_p50=lengths[0], length_p95=lengths[1], length_max=lengths[2], digest="d",
    )  # fmt: skip


def dataset() -> PreparedDataset:
    """A dataset with two reasons for dropping rows."""
    return PreparedDataset(
        key="k",
        format="chatml",
        format_evidence=("every row has messages",),
        sources=(SourceFile(path="train.jsonl", sha256="0" * 64, num_bytes=1, num_rows=5012),),
        seen=5012,
        kept=4800,
        dropped=(
            Drop(
                code="exact_duplicate",
                count=208,
                first="train.jsonl:37",
                message="said before",
                fix="nothing: one copy is kept",
            ),
            Drop(
                code="no_assistant",
                count=4,
                first="train.jsonl:112",
                message="the conversation has no assistant turn to learn from",
                fix="add the answer, or drop the row",
            ),
        ),
        splits={
            "train": split(3840, groups=410, tokens=801_234, learned=61_440, lengths=(188, 402, 512)),
            "validation": split(480, groups=51, tokens=99_120, learned=7_600, lengths=(190, 405, 509)),
            "test": split(480, groups=52, tokens=100_008, learned=7_710, lengths=(187, 398, 511)),
        },
        altered=(
            Alteration(
                code="prompt_truncated",
                count=12,
                first="train.jsonl:80",
                message="its first 2 turns were cut off",
                num_learned_tokens=150,
            ),
        ),
        num_altered=12,
        seen_learned_tokens=76_900,
        on_too_long="truncate_prompt",
        tokens=TokenReport(
            quantiles={"50%": 188, "95%": 402, "100%": 512},
            lengths=(
                LengthChoice(max_length=256, num_rows_too_long=1210, learned_share_lost=0.2012),
                LengthChoice(max_length=512, num_rows_too_long=0, learned_share_lost=0.0),
            ),
            advised_max_length=512,
            packing_share=0.98,
            padding_share=0.91,
            fertility=(Fertility(language="en", num_words=1000, num_tokens=1312),),
            vocabulary_size=49152,
            vocabulary_used=20_412,
            unknown_tokens=0,
            template="the model's own; an answer ends with <|im_end|>",
        ),
        mask_proof=MaskProof(num_proven=4800, num_disagreeing=0, end_of_turn_learned=True, stop_tokens=("<|im_end|>",)),
        template_digest="t",
        tokenizer_digest="t",
        pad_token_id=2,
        max_length=512,
        example=(
            (
                "<|im_start|>user\nWrite the docstring.\n\ndef add(a, b):\n    return a + b<|im_end|>\n"
                "<|im_start|>assistant\n",
                False,
            ),
            ("Return the sum of two numbers.<|im_end|>", True),
            ("\n", False),
        ),
    )


def run() -> TrainingRun:
    """A run stopped early, one of its two predictions wrong."""
    losses = (2.61, 2.12, 1.93, 1.88, 1.86, 1.87, 1.89, 1.90)
    points = tuple(
        EvaluationPoint(step=60 * i, epoch=i / 8, validation_loss=loss) for i, loss in enumerate(losses, start=1)
    )
    return TrainingRun(
        run_name="docstrings",
        stop_reason="early_stopping",
        num_steps=480,
        planned_steps=960,
        num_epochs=1.0,
        num_trainable_parameters=4_884_480,
        num_parameters=139_399_488,
        initial_validation_loss=3.4182,
        evaluations=points,
        best_step=300,
        best_validation_loss=1.86,
        final_train_loss=1.7204,
        learned_tokens=61_440,
        processed_tokens=801_234,
        padded_tokens=840_192,
        seconds=214.2,
        total_seconds=268.9,
        peak_memory_bytes=int(2.05 * GIB),
        hardware=MACHINE,
        versions={"torch": "2.13.0", "peft": "0.21.2"},
        checkpoint="checkpoints/step-300",
        scores=(
            Score(
                name="memory",
                unit="bytes",
                predicted=Interval(low=1.6 * GIB, mid=1.9 * GIB, high=2.4 * GIB),
                measured=2.05 * GIB,
                inside=True,
            ),
            Score(
                name="duration",
                unit="seconds",
                predicted=Interval(low=300.0, mid=350.0, high=440.0),
                measured=268.9,
                inside=False,
            ),
            Score(
                name="speed",
                unit="tokens_per_second",
                predicted=Interval(low=2900.0, mid=3500.0, high=4100.0),
                measured=3740.0,
                inside=True,
            ),
        ),
    )


def comparisons() -> tuple[Comparison, ...]:
    """One metric that improved, one that cannot be told and one without an interval."""
    return (
        Comparison(
            metric="perplexity",
            higher_is_better=False,
            baseline=30.52,
            candidate=6.424,
            difference=-24.1,
            standard_error=1.2,
            ci_low=-26.5,
            ci_high=-21.7,
            p_value=1e-9,
            test="paired, clustered, log scale",
            n=480,
            clusters=52,
            minimum_detectable_difference=0.8,
            verdict="improved",
            margin=0.3,
            relative=-0.79,
            relative_ci_low=-0.81,
            relative_ci_high=-0.77,
        ),
        Comparison(
            metric="chrf",
            higher_is_better=True,
            baseline=0.213,
            candidate=0.224,
            difference=0.011,
            standard_error=0.009,
            ci_low=-0.007,
            ci_high=0.029,
            p_value=0.2214,
            test="paired t, clustered",
            n=100,
            clusters=31,
            minimum_detectable_difference=0.026,
            verdict="inconclusive",
            margin=0.01,
        ),
        Comparison(
            metric="exact_match",
            higher_is_better=True,
            baseline=0.0,
            candidate=0.0,
            difference=0.0,
            standard_error=None,
            ci_low=None,
            ci_high=None,
            p_value=None,
            test="paired t, clustered",
            n=1,
            clusters=1,
            minimum_detectable_difference=None,
            verdict="inconclusive",
            margin=0.01,
        ),
    )


def suites() -> tuple[SuiteResult, ...]:
    """One suite that got worse, and one that holds."""
    found = []
    for name, difference, p_value, verdict in (
        ("arc_easy", -0.08, 0.0004, "regressed"),
        ("sums", 0.01, 0.62, "non_inferior"),
    ):
        compared = comparisons()[1].model_copy(update={
            "metric": "accuracy", "baseline": 0.62, "candidate": 0.62 + difference, "difference": difference,
            "ci_low": difference - 0.025, "ci_high": difference + 0.025, "p_value": p_value, "margin": 0.02,
            "verdict": verdict, "minimum_detectable_difference": 0.036,
        })  # fmt: skip
        found.append(SuiteResult(
            name=name, kind="multiple_choice", digest="d", comparison=compared, p_adjusted=min(1.0, 2 * p_value), verdict=compared.verdict,
        ))  # fmt: skip
    return tuple(found)


def evaluation() -> Evaluation:
    """An evaluation where one metric improved, one cannot be told and one has no interval."""
    return Evaluation(
        baseline="SmolLM2-135M-Instruct",
        candidate="runs/docstrings, step 300",
        num_rows=480,
        num_clusters=52,
        cluster_by="module",
        inputs={"plan": "a1" * 32, "dataset": "b2" * 32, "weights": "c3" * 16},
        comparisons=comparisons(),
        suites=suites(),
        generation=Generation(
            num_rows=100,
            max_new_tokens=64,
            stop_tokens=("<|im_end|>",),
            baseline_stop_rate=0.62,
            candidate_stop_rate=1.0,
        ),
        samples=(
            Sample(
                row=7,
                source="stdlib:json/decoder.py:339",
                prompt="Write the docstring.\n\n" + "def f(x): " * 60,
                reference="Decode a JSON document.",
                baseline="Here is a docstring:\n\n    '''Decode.'''\n" * 8,
                candidate="Decode a JSON string and return it.",
            ),
        ),
        readiness=(
            Check(name="better than the base", passed=True, detail="perplexity 6.424 against 30.52"),
            Check(
                name="answers end by themselves",
                passed=False,
                detail="62 of 100",
                fix="look at the template's stop token",
            ),
            Check(name="other abilities kept", passed=None, detail="no probe was run", fix="run one: --suites FOLDER"),
        ),
        seconds=74.5,
    )


def diagnosis() -> Diagnosis:
    """Two findings, the first with a patch."""
    return Diagnosis(
        subject="train.log",
        findings=(
            Finding(
                label="cuda_oom",
                confidence=0.93,
                title="The GPU ran out of memory",
                evidence=(
                    Evidence(line=1204, text="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.64 GiB."),
                    Evidence(line=None, text="batch 8 x 4096 tokens needs 31.2 GiB, the GPU has 24.0"),
                ),
                cause="The logits of one pass do not fit.",
                fix="Halve the micro batch and double the accumulation.",
                patch={
                    "batch.micro_batch_size": 4,
                    "batch.gradient_accumulation_steps": 4,
                    "data.chat_template": "my template.jinja",
                },
            ),
            Finding(
                label="overfitting",
                confidence=0.31,
                title="The validation loss rises",
                evidence=(),
                cause="Few rows.",
                fix="Stop earlier.",
            ),
        ),
    )


def checkup() -> Checkup:
    """An old package, a GPU that is not seen, a damaged run and a self-test that failed."""
    packages = (
        Package(name="click", version="8.3.0", wanted=">=8.1", suffices=True),
        Package(name="numpy", version="1.26.4", wanted=">=2.0", suffices=False),
    )
    ray = Package(name="ray", version=None, wanted=">=2.50", suffices=False)
    gpu = Gpu(name="NVIDIA L4", memory_bytes=24 << 30, bf16=True)
    return Checkup(
        program="0.1.0",
        python="3.12.1",
        system="Linux-6.8-x86_64",
        hardware=MACHINE.model_copy(update={"gpus": (gpu,)}),
        parts=(Part(name="core", packages=packages), Part(name="ray", packages=(ray,))),
        abilities=(
            Check(name="room for runs", passed=True, detail="67.5 GiB free in /home/ann"),
            Check(name="PyTorch sees the GPUs", passed=False, detail="0 of 1; built for processors alone",
                  fix="pip install torch --index-url https://download.pytorch.org/whl/cu128"),
            Check(name="4-bit weights and 8-bit states", passed=None, detail="bitsandbytes is not installed",
                  fix='pip install "finetune-exe[train]"'),
        ),
        runs=(
            RunState(folder="runs/first", state="finished", num_checkpoints=3),
            RunState(folder="runs/second", state="unfinished", num_checkpoints=1,
                     problems=("the last was step 8 of 30",),
                     fix="fine-tune train runs/second/plan.yaml --run runs/second --resume"),
            RunState(folder="runs/third", state="damaged", num_checkpoints=0,
                     problems=("checkpoints/step-8/model.safetensors: it has 100 bytes and should have 400",),
                     fix="fine-tune train runs/third/plan.yaml --run runs/third --overwrite"),
        ),
        self_tests=(
            SelfTest(name="accumulation", claim="8 passes of 1 row learn as 1 pass of 8", figure=1.7e-7,
                     tolerance=1e-5, verdict="passed", detail="gradient and loss, relative", seconds=0.5),
            SelfTest(name="padding", claim="a padded batch reads as its rows alone", figure=0.31, tolerance=1e-5,
                     verdict="FAILED", detail="losses of all learned tokens, relative", seconds=0.2),
            SelfTest(name="4-bit gradients", claim="4-bit weights learn as the weights they stand for", figure=None,
                     tolerance=0.05, verdict="not measured", detail="bitsandbytes is not installed", seconds=0.0),
        ),
        seconds=21.0,
    )  # fmt: skip
