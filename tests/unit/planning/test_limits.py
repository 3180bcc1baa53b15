"""Limits of time and money in a description: of the training they count, of anything else they do not."""

import math

import pytest

from finetune_exe.domain.task import TaskSpec
from finetune_exe.knowledge.limit_words import currencies, limit_words
from finetune_exe.planning.wishes import hear, read_wishes

HOURS = [
    ("Fine-tune Llama 3 8B to answer mails in at most 3 hours", None),
    ("Fine-tune Llama 3 8B to answer mails, in at most 3 hours", 3),
    ("Fine-tune Llama 3 8B on an RTX 4090 in under 6 hours to answer support mails", 6),
    ("Fine-tune Mistral 7B for SQL; it should take less than half an hour", None),
    ("Fine-tune Mistral 7B for SQL; training should take less than half an hour", 0.5),
    ("Fine-tune Llama 3 8B under 3 hours", 3),
    ("Train a summariser for contracts in less than 2 hours", 2),
    ("Classify mails with QLoRA, finished within two days", 48),
    ("Train it overnight: a chatbot on my RTX 3090", 10),
    ("Fine-tune Qwen3 8B overnight on my 4090", 10),
    ("Answer questions about insurance from 3,000 past chats, politely, on one RTX 4090, in one night", 10),
    ("Fine-tune Qwen3 8B on my 4090, done by tomorrow morning, to answer mails", 10),
    ("Use one A100 over the weekend for summaries", 48),
    ("Trainiere Llama 3 8B auf einer RTX 4090 in höchstens 3 Stunden", 3),
    ("Ein Modell für Verträge in weniger als 90 Minuten trainieren", 1.5),
    ("Übersetzer feinabstimmen, über Nacht", 10),
    ("Das Training darf höchstens anderthalb Stunden dauern: Mails sortieren", 1.5),
    ("Mails sortieren mit QLoRA, maximal zwei Tage", 48),
    ("Entraîner un modèle en moins de 2 heures pour trier des mails", 2),
    ("Trier des mails avec QLoRA, en 3 heures maximum", 3),
    ("Résumer des contrats avec Mistral 7B, l'entraînement doit durer au plus 30 minutes", 0.5),
    ("Entraîner pendant la nuit un modèle de résumé", 10),
    ("Entrenar un modelo en menos de 2 horas para clasificar correos", 2),
    ("Clasificar correos con LoRA, 3 horas como máximo", 3),
    ("Treinar um modelo de resumo em menos de 2 horas", 2),
    ("Classificar e-mails com ajuste fino, no máximo 3 horas", 3),
    ("Addestrare un modello in meno di 2 ore", 2),
    ("Riassumere contratti con fine-tuning, entro mezza giornata", None),
    ("Riassumere contratti con fine-tuning, entro due giorni", 48),
    ("三小时以内微调一个合同翻译模型", 3),
    ("用RTX 4090微调Qwen2.5 7B做摘要，训练时间不超过5小时", 5),
    ("微调模型给邮件分类，半小时以内", 0.5),
    ("微调模型给邮件分类，今晚跑完", 10),
    ("RTX 3090でQwen2.5 7Bを2時間以内に学習して契約書を要約する", 2),
    ("契約書を要約する。学習は三時間以内", 3),
]  # fmt: skip

DOLLARS = [
    ("Fine-tune Llama 3 8B to answer mails, for less than 20 dollars", 20),
    ("Train a model for SQL on 8xH100 within a $200 budget", 200),
    ("SQL with LoRA, budget: $1.5k", 1500),
    ("Word problems, within 1 hour and a budget of $2 on one H100", 2),
    ("SQL with LoRA; it must not cost more than 20 USD", 20),
    ("Fine-tune a chatbot, max €50", 54),
    ("Mails mit QLoRA sortieren, für höchstens 50 Euro", 54),
    ("Feinabstimmung für Verträge, Budget 1.000 Euro", 1080),
    ("Trier des mails avec QLoRA, pour moins de 50 euros", 54),
    ("Entrenar un modelo de correos por menos de 50 euros", 54),
    ("Treinar um modelo de resumo, por menos de 100 reais", 19),
    ("Addestrare un modello, al massimo 20 euro", 21.6),
    ("微调一个翻译模型，预算100元", 14),
    ("微调一个翻译模型，花费不超过20美元", 20),
    ("Qwen2.5 7BをRTX 4090で学習する。予算は1000円以内", 6.6),
]

NO_LIMITS = [
    "Reply to customers within 2 hours with empathy",
    "Train a model that predicts whether a train arrives within 10 minutes",
    "Fine-tune Llama 3 8B to reply to customers within 2 hours",
    "Fine-tune Mistral 7B to summarise meetings of up to 3 hours",
    "Train a model to summarise what happened overnight",
    "Train a model to say which flights arrive in one night",
    "Remind customers to pay by tomorrow",
    "Fine-tune Qwen3 8B to suggest gifts under $50",
    "Fine-tune Qwen3 8B to answer questions about our budget of $500 million",
    "Fine-tune Llama 3 8B to classify claims below $10,000 and above",
    "Recommend laptops, at most 500 dollars",
    "Fine-tune Qwen3 8B on texts about cities with a budget of $500 million",
    "Plan 2 hours of training for marathon runners",
    "Take the train in under 3 hours from A to B: answer such questions",
    "Estimate how long a repair takes, at most 3 hours",
    "Llama 3 8B feinabstimmen, um Fragen zu Mietverträgen unter 12 Tagen zu beantworten",
    "Trainingspläne schreiben, maximal 3 Stunden",
    "Kunden innerhalb von 24 Stunden freundlich antworten",
    "Ein Modell trainieren, das Nachrichten der letzten 24 Stunden zusammenfasst",
    "Angebote unter 50 Euro empfehlen",
    "Zusammenfassen, was über Nacht geschah",
    "Entraîner un modèle qui résume les réunions de moins de 2 heures",
    "Répondre aux clients en moins de 24 heures",
    "Proposer des cadeaux à moins de 50 euros",
    "Responder a los clientes en menos de 24 horas",
    "Entrenar un modelo que recomiende regalos de menos de 50 euros a los clientes",
    "Resumir lo que pasó durante la noche",
    "Responder a clientes em menos de 24 horas",
    "Treinar um modelo que responde a pedidos de até 50 reais de clientes",
    "写马拉松训练计划，两小时以内",
    "总结三小时以内的会议",
    "微调模型推荐100元以下的礼物",
    "微调模型回答第三天的问题",
    "24時間以内に客に返事をする",
    "1000円以下の商品を勧める",
]


@pytest.mark.parametrize(("description", "hours"), HOURS)
def test_hours_of_the_training_are_heard(description: str, hours: float | None) -> None:
    assert hear(TaskSpec(description=description)).hours == hours


@pytest.mark.parametrize(("description", "dollars"), DOLLARS)
def test_what_the_training_may_cost_is_heard(description: str, dollars: float | None) -> None:
    heard = hear(TaskSpec(description=description)).budget_usd
    assert (heard is None) == (dollars is None)
    assert heard is None or dollars is None or math.isclose(heard, dollars)


@pytest.mark.parametrize("description", NO_LIMITS)
def test_other_amounts_are_no_limits(description: str) -> None:
    assert [wish for wish in read_wishes(description) if wish.field in ("hours", "budget_usd")] == []


def test_what_another_currency_was_taken_for_is_said() -> None:
    (said,) = [text for text in hear(TaskSpec(description="Mails mit QLoRA sortieren, für 50 Euro maximal")).heard
               if "budget" in text]  # fmt: skip
    assert "a euro taken for 1.08 dollars" in said
    assert "--budget-usd 54" in said


def test_every_language_has_every_list() -> None:
    assert [words.language for words in limit_words()] == ["en", "de", "fr", "es", "pt", "it", "zh", "ja"]
    assert currencies()[0].usd == 1.0
