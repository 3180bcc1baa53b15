"""Wishes in a description: what is to be worked with counts, what the task is only about does not."""

from pathlib import Path

import pytest

from finetune_exe.domain.task import TaskSpec
from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.gpus import find_gpu
from finetune_exe.knowledge.models import find_model
from finetune_exe.planning.model import is_family
from finetune_exe.planning.notes import notes
from finetune_exe.planning.wishes import hear, read_wishes
from finetune_exe.workflow.plans import make_plan

HERE = Path(__file__).parent

WISHED = [
    ("Fine-tune Llama 3 8B to answer tickets in our tone, 3,000 ticket/answer pairs, one RTX 4090",
     {"model": "meta-llama/Meta-Llama-3-8B-Instruct", "gpu": "RTX 4090 24GB", "num_rows": 3000}),
    ("Fine-tune Mistral 7B on my company's Slack history using QLoRA on a single 3090",
     {"model": "mistralai/Mistral-7B-Instruct-v0.3", "method": "qlora", "gpu": "RTX 3090 24GB"}),
    ("I want to finetune qwen2.5-7b for text-to-SQL on 8xH100 within a $200 budget",
     {"model": "Qwen/Qwen2.5-7B-Instruct", "gpu": "8xH100 SXM 80GB", "budget_usd": 200.0}),
    ("train a LoRA adapter for Llama-3.1-8B-Instruct that writes in my style, 24GB VRAM",
     {"model": "meta-llama/Llama-3.1-8B-Instruct", "method": "lora", "gpu": "24"}),
    ("fine tune gpt2 to write poems on cpu", {"model": "openai-community/gpt2", "gpu": "cpu"}),
    ("Teach Phi-4 to grade essays without losing its general abilities; I have two A100 80GB",
     {"model": "microsoft/phi-4", "gpu": "2xA100 SXM 80GB", "keep_abilities": True}),
    ("Full fine-tuning of Llama 3.2 1B for medical QA on a T4",
     {"model": "meta-llama/Llama-3.2-1B-Instruct", "method": "full", "gpu": "T4 16GB"}),
    ("Adapt Gemma 2 9B to Polish legal summaries with LoRA, training in under 6 hours on 2 x L4",
     {"model": "google/gemma-2-9b-it", "method": "lora", "hours": 6.0, "gpu": "2xL4 24GB"}),
    ("use Qwen3 8B, classify toxic comments, free Colab", {"model": "Qwen/Qwen3-8B", "gpu": "T4 16GB"}),
    ("Fine-tune Mistral for function calling", {"model": "Mistral"}),
    ("make Llama 3.1 talk like a pirate on my MacBook Pro M3 Max",
     {"model": "Llama 3.1", "gpu": "Apple M3 Max (40-core)"}),
    ("Base model: mistralai/Mistral-7B-v0.3. Hardware: 4x RTX 3090. Summarise meetings.",
     {"model": "mistralai/Mistral-7B-v0.3", "gpu": "4xRTX 3090 24GB"}),
    ("Llama 3 8B LoRA for extraction of invoice fields",
     {"model": "meta-llama/Meta-Llama-3-8B-Instruct", "method": "lora"}),
    ("Turn Qwen2.5-Coder-7B into a Verilog assistant; spend at most $50; only Apache-licensed models",
     {"model": "Qwen/Qwen2.5-Coder-7B-Instruct", "budget_usd": 50.0, "permissive_license": True}),
    ("Build a chatbot on a laptop without a GPU", {"gpu": "cpu"}),
    ("I've got an RTX 4060 and 800 examples, want JSON extraction", {"gpu": "RTX 4060 8GB", "num_rows": 800}),
    ("Continue pretraining Llama 3 70B on legal text with 64 H100s",
     {"model": "meta-llama/Meta-Llama-3-70B-Instruct", "gpu": "64xH100 SXM 80GB"}),
    ("Fine-tune a small model for sentiment on Colab, done in 90 minutes", {"gpu": "T4 16GB", "hours": 1.5}),
    ("qlora mistral on a colab T4 for json extraction", {"model": "mistral", "method": "qlora", "gpu": "T4 16GB"}),
    ("Distill answers of GPT-4 into Qwen2.5 1.5B", {"model": "Qwen/Qwen2.5-1.5B-Instruct"}),
    ("Answer customers' questions about our products from 3,000 past chats, with DPO",
     {"num_rows": 3000, "objective": "dpo"}),
    ("Fine-tune Qwen3 8B using direct preference optimization to be more polite",
     {"model": "Qwen/Qwen3-8B", "objective": "dpo"}),
    ("I have 5M rows of chat logs, pretrain on one H100 over a weekend",
     {"num_rows": 5_000_000, "gpu": "H100 SXM 80GB", "hours": 48.0}),
    ("We have 12k support tickets; write the answers", {"num_rows": 12000}),
    ("classify tickets, QLoRA, RTX 3060, overnight", {"method": "qlora", "gpu": "RTX 3060 12GB", "hours": 10.0}),
    ("Llama 3 8B for summaries (QLoRA)", {"model": "meta-llama/Meta-Llama-3-8B-Instruct", "method": "qlora"}),
    ("SQL generation on a 16 GB GPU, a budget of $1,000, training budget 2 days, 2 days training budget",
     {"gpu": "16", "budget_usd": 1000.0, "hours": 48.0}),
]  # fmt: skip

ONLY_THE_MATTER = [
    "Explain DPO to students",
    "Answer questions about papers that compare SFT with DPO and PPO",
    "Rewrite answers generated with DPO models",
    "Sort tickets: we get 900 tickets a day",
    "Find the gist of product pages with 200 reviews each",
    "Write a summary from 3 articles",
    "QLoRA or LoRA: answer which one a question is about",
    "Classify reviews of the RTX 4090 as positive or negative",
    "Answer questions about Llama 3 8B's licence",
    "Summarise papers about LoRA and QLoRA",
    "Answer questions about quantisation, QLoRA, and pruning",
    "Answer questions about pruning, QLoRA",
    "Fix answers generated with Llama 3 70B",
    "Rank outputs from Mistral 7B",
    "Summarise threads on Llama 3 8B's forum",
    "Sort complaints with Mistral 7B outputs by topic",
    "Reply to customers within 2 hours with empathy",
    "Suggest products under $50",
    "Extract boxes from a T4 form",
    "Write German texts on A2 level",
    "Translate GPU datasheets such as A100 and H100 into Japanese",
    "Our assistant should be as good as Llama 3.1 70B",
    "Beat Llama 3.1 70B at triage",
    "Explain the difference between LoRA and full fine-tuning",
    "Estimate repair costs below $500",
    "Identify falcon species from descriptions",
    "Classify llama and alpaca breeders' emails",
    "Write product descriptions for graphics cards (RTX 4090, RTX 4080)",
    "Predict whether a train arrives within 10 minutes",
    "Detect text written by Mistral or Qwen",
    "Answer questions on RTX 4090 drivers",
    "Convert full training plans for marathon runners",
    "Schedule training sessions of 2 hours for athletes",
    "Translate between 7B and 8B dialects",
    "Write 50 question/answer pairs for each chapter",
    "Answer in 3 examples, then stop",
    "Score essays against 2,000 test samples",
]


@pytest.mark.parametrize(("description", "wishes"), WISHED)
def test_what_is_worked_with_is_a_wish(description: str, wishes: dict[str, object]) -> None:
    heard = hear(TaskSpec(description=description))
    fields = set(TaskSpec.model_fields) - {"description", "heard", "inputs", "schema_number"}
    assert {
        name: value for name in fields if (value := getattr(heard, name)) != getattr(TaskSpec(description="x"), name)
    } == wishes
    assert len(heard.heard) == len(wishes)


@pytest.mark.parametrize(
    ("description", "model", "gpu", "method"),
    [
        ("Llama 3.1 8B mit QLoRA auf einer RTX 3090 trainieren", "meta-llama/Llama-3.1-8B-Instruct", "RTX 3090 24GB", "qlora"),
        ("Trainiere Qwen2.5 7B auf 2 RTX 4090 für Übersetzungen", "Qwen/Qwen2.5-7B-Instruct", "2xRTX 4090 24GB", None),
        ("Traduire des contrats avec Qwen2.5 7B sur une RTX 4090", "Qwen/Qwen2.5-7B-Instruct", "RTX 4090 24GB", None),
        ("Entrenar Qwen2.5 7B con LoRA en una RTX 3060", "Qwen/Qwen2.5-7B-Instruct", "RTX 3060 12GB", "lora"),
        ("Treinar Qwen2.5 7B com LoRA em uma RTX 3060", "Qwen/Qwen2.5-7B-Instruct", "RTX 3060 12GB", "lora"),
        ("Addestrare Qwen2.5 7B con LoRA su una RTX 3060", "Qwen/Qwen2.5-7B-Instruct", "RTX 3060 12GB", "lora"),
        ("Classificar avaliações da RTX 4090", None, None, None),
        ("Classificare recensioni su Mistral 7B", None, None, None),
        ("用一张RTX 4090微调Qwen2.5 7B做合同翻译", "Qwen/Qwen2.5-7B-Instruct", "RTX 4090 24GB", None),
        ("RTX 3090でQwen2.5 7Bを学習して契約書を要約する", "Qwen/Qwen2.5-7B-Instruct", "RTX 3090 24GB", None),
        ("对RTX 4090的评论进行分类", None, None, None),
        ("Llama 3 8Bの回答を評価する", None, None, None),
        ("Bewertungen der RTX 4090 klassifizieren", None, None, None),
        ("Antworten von Llama 3 8B bewerten", None, None, None),
        ("Classer des avis sur Mistral 7B", None, None, None),
        ("Resumir reseñas de la RTX 4090", None, None, None),
    ],
)  # fmt: skip
def test_wishes_are_heard_in_seven_more_languages(
    description: str, model: str | None, gpu: str | None, method: str | None
) -> None:
    heard = hear(TaskSpec(description=description))
    assert (heard.model, heard.gpu, heard.method) == (model, gpu, method)


@pytest.mark.parametrize("description", ONLY_THE_MATTER)
def test_what_the_task_is_about_is_none(description: str) -> None:
    assert list(read_wishes(description)) == []


def test_tasks_that_name_no_model_and_no_hardware_have_no_wishes() -> None:
    lines = [
        line for name in ("user_tasks.txt", "user_tasks_unseen.txt") for line in (HERE / name).read_text().splitlines()
    ]
    heard = {line: [wish.words for wish in read_wishes(line)] for line in lines}
    assert {line: words for line, words in heard.items() if words} == {
        "chat: make Llama behave as a helpful assistant in Czech": ["Llama"],
        "qa: I have 3000 FAQ pairs and want a model that answers them": ["have 3000 FAQ pairs"],
        "classification: I have 5k emails labelled with a department and want new ones sorted automatically": [
            "have 5k emails"
        ],
    }


def test_every_known_name_is_heard_and_stands_for_itself() -> None:
    for name in ("Qwen/Qwen2.5-7B-Instruct", "google/gemma-2-9b", "openai-community/gpt2-xl"):
        (wish,) = read_wishes(f"Fine-tune {name} to rhyme")
        assert (wish.field, find_model(str(wish.value))) == ("model", find_model(name))
    for name in ("A100 40GB", "rtx 3080 ti", "MI300X", "NVIDIA H200", "L40S", "GTX 1080 Ti"):
        (wish,) = read_wishes(f"Rhyme, on a {name}.")
        assert (wish.field, find_gpu(str(wish.value)).name) == ("gpu", find_gpu(name).name)


@pytest.mark.parametrize(
    ("words", "rows"),
    [("1.5k conversations", 1500), ("about 2 million rows", 2_000_000), ("12,500 labelled samples", 12_500)],
)
def test_a_number_of_rows_is_read_with_its_unit(words: str, rows: int) -> None:
    assert hear(TaskSpec(description=f"Rhyme. We have {words}.")).num_rows == rows


def test_two_different_ones_are_none_and_said() -> None:
    spec = hear(TaskSpec(description="Fine-tune Llama 3 8B, fine-tune Mistral 7B, on a 4090"))
    assert (spec.model, spec.gpu) == (None, "RTX 4090 24GB")
    assert any("'Llama 3 8B' and 'Mistral 7B'" in said and "--model" in said for said in spec.heard)
    same = hear(TaskSpec(description="Fine-tune Llama 3 8B for SQL. Use Llama-3-8B with LoRA."))
    assert same.model == "meta-llama/Meta-Llama-3-8B-Instruct"


def test_a_size_alone_is_none_and_said() -> None:
    for words in ("Fine-tune a 70B model on my RTX 3060", "Entrenar un modelo de 70B", "微调一个70B模型"):
        spec = hear(TaskSpec(description=words))
        assert spec.model is None
        assert any("a size alone names no model: say --model" in said for said in spec.heard)
    named = hear(TaskSpec(description="Fine-tune Llama 3 70B, a 70B model"))
    assert not any("a size alone" in said for said in named.heard)


def test_of_two_the_more_exact_one_is_taken() -> None:
    spec = hear(TaskSpec(description="Fine-tune Llama to rhyme: use Llama 3 8B, an RTX 4090, 24 GB VRAM, with Q-LoRA"))
    assert (spec.model, spec.gpu) == ("meta-llama/Meta-Llama-3-8B-Instruct", "RTX 4090 24GB")
    assert spec.method == "qlora"


def test_a_long_text_is_heard_at_its_beginning() -> None:
    assert hear(TaskSpec(description="Fine-tune gpt2. " + "word " * 100_000)).model == "openai-community/gpt2"


def test_an_option_counts_instead() -> None:
    words = "Fine-tune Llama 3 8B with QLoRA on 8xH100"
    spec = hear(TaskSpec(description=words, model="embedded", gpu="T4", method="lora"))
    assert (spec.model, spec.gpu, spec.method, spec.heard) == ("embedded", "T4", "lora", ())
    plan = make_plan(TaskSpec(description=words), settings=("model.reference=embedded", "method.kind=lora"))
    assert (plan.model.reference, plan.method.kind, len(plan.hardware.gpus)) == ("embedded", "lora", 8)
    assert len(plan.task.heard) == 1


def test_who_names_dpo_learns_from_pairs() -> None:
    plan = make_plan(TaskSpec(description="Fine-tune SmolLM2 135M with DPO to answer politely"))
    assert (plan.objective.kind, plan.data.format) == ("dpo", "preference")
    assert any("--set objective.kind=dpo" in note for note in notes(plan))
    answers = make_plan(TaskSpec(description="Fine-tune SmolLM2 135M with DPO to answer politely"),
                        settings=("objective.kind=sft",))  # fmt: skip
    assert (answers.objective.kind, answers.data.format) == ("sft", None)


def test_the_plan_follows_the_words_and_says_so() -> None:
    plan = make_plan(TaskSpec(description="Fine-tune Qwen2.5-7B on 2xA100 80GB to write SQL"))
    assert (plan.model.reference, len(plan.hardware.gpus)) == ("Qwen/Qwen2.5-7B-Instruct", 2)
    assert "'Qwen2.5-7B' as --model Qwen/Qwen2.5-7B-Instruct" in notes(plan)[0]
    assert "'2xA100 80GB' as --gpu '2xA100 SXM 80GB'" in notes(plan)[0]


@pytest.mark.parametrize("name", ["llama", "Mistral", "qwen3", "Gemma 2"])
def test_a_family_stands_for_the_best_of_it_that_fits(name: str) -> None:
    assert is_family(name)
    large, small = (make_plan(TaskSpec(description="write SQL", model=name, gpu=gpu)).model for gpu in ("80", "12"))
    assert (large.num_parameters or 0) > (small.num_parameters or 0) > 0
    for model in (large, small):
        facts = find_model(model.reference)
        assert name.lower().split()[0].rstrip("3") in (facts.family, facts.series.lower())


def test_a_name_of_one_model_or_of_nothing_is_no_family() -> None:
    assert not any(map(is_family, ["gpt2", "mistral 7b", "embedded", "", "my-model"]))


def test_rows_that_will_be_decide_where_rows_that_are_would() -> None:
    few, many, data = (
        make_plan(TaskSpec(description="write poems", gpu="4090", num_rows=rows)) for rows in (200, 200_000, None)
    )
    assert few.schedule.epochs > many.schedule.epochs
    assert few.batch.effective < many.batch.effective
    assert few.estimates["duration"].value.mid < many.estimates["duration"].value.mid
    assert (few.task.num_rows, data.task.num_rows) == (200, None)
    assert "200 rows" in notes(few)[0]
    assert "--rows N" in notes(data)[0]


def test_a_limit_is_held_against_rows_that_were_named_and_not_against_a_guess() -> None:
    assert make_plan(TaskSpec(description="write poems", gpu="T4", hours=0.001))
    with pytest.raises(FineTuneError, match="is given") as refused:
        make_plan(TaskSpec(description="write poems", gpu="T4", hours=0.001, num_rows=1_000_000))
    assert refused.value.code == "C10"
