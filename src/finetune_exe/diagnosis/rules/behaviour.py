"""Failures that show in the loss or the answers, not in an error: the five that are most common among them."""

from __future__ import annotations

from finetune_exe.diagnosis.rules.rule import Cause, Tale

_ANSWERS = r"(output|answer|respon|generat|inference|predict|text|model|result|repl)\w*"
_WORSE = (
    r"(drop|lost|los[et]s?\b|losing|worse|weaker|degrad|declin|destroy|damag|forg[eo]t|hurt"
    r"|reduc|lower|fell|decreas|broken)\w*"
)

CAUSES = (
    Cause(
        label="overfitting",
        title="Overfitting: validation loss rises while training loss falls",
        cause="The model learns the training rows by heart: too many passes, too high a rate or rank,"
        " or too little and too"
        " uniform data.",
        fix="Keep the checkpoint of the lowest validation loss and stop early; fewer epochs, more"
        " and more varied data, some dropout.",
        tales=(
            Tale(
                words=(r"(sudden|sharp|abrupt|stair|step)\w*", r"epoch", r"loss"),
                strength=0.78,
                unless=r"steps?_|(jump|spike|increas|explod|nan)",
            ),
            Tale(words=(r"overfit|over-fit",), strength=0.85, unless=r"not overfit|no (sign of )?overfit"),
            Tale(
                words=(
                    r"(eval\w*|val|validation|test|dev)[ _-]loss<80>(ris|ros|increas|goes up|went up|grow"
                    r"|climb|up again|higher and higher)",
                ),
                strength=0.85,
            ),
            Tale(words=(r"memori[sz]",), strength=0.6),
            Tale(
                words=(
                    r"(drop|fall|fell|decreas|stair|step)\w*<80>(epoch)|epoch<60>(sudden\w*|sharp)?<20>(drop"
                    r"|fall|stair)",
                    r"loss",
                ),
                strength=0.65,
                unless=r"until epoch|accuracy drop",
            ),
            Tale(words=(r"\bloss\b<60>(near|to|close to|almost|nearly) (zero|0(\.0+)?)\b",), strength=0.6),
            Tale(
                words=(
                    r"(train\w*)<40>(good|perfect|100 ?%|great|low)",
                    r"(test|unseen|new|validation|held)<40>(bad|poor|wors|high|fail)",
                ),
                strength=0.75,
            ),
        ),
        patch={"schedule.epochs": 1.0, "checkpoints.early_stopping_patience": 2, "method.lora_dropout": 0.05},
        scale={"optimizer.learning_rate": 0.5},
    ),
    Cause(
        label="underfitting",
        title="Underfitting: the loss stays high, or the training leaves no trace",
        cause="Too few steps, too low a learning rate, too much warm-up, or adapters too small or on too few layers.",
        fix="Train for more steps (smaller effective batch, more epochs), raise the learning rate"
        " (1e-4 to 2e-4 for LoRA), and"
        " adapt all linear layers.",
        tales=(
            Tale(words=(r"underfit|under-fit|under-?train",), strength=0.85),
            Tale(
                words=(
                    r"\bloss\b<60>(high|stuck|flat|plateau|stagnat|barely|hardly|not (decreas|fall|go|drop"
                    r"|chang|converg)|n't (decreas|fall|go|drop|chang|converg))",
                ),
                strength=0.7,
                unless=r"\d ?x higher|times higher|accumul|nan\b",
            ),
            Tale(
                words=(
                    r"(not|n't|unchanged|no|never|without|even)\b<60>(show|chang|learn|work|effect|identity"
                    r"|improv|know|trace)",
                    r"(learning[_ ]?rate|\blr\b)\s*(of|is|[=:])?\s*(\d(\.\d+)?e-0?[5-9]|0\.0000)"
                    r"|warm-?up<12>0\.[2-9]|\b(only )?\d{1,2} steps",
                ),
                strength=0.8,
                unless=r"nan\b",
            ),
            Tale(
                words=(r"converg\w+ (lower|faster|better|slower)|loss (is |stays )?(much )?higher than",),
                strength=0.6,
                unless=r"accumul|upgrad",
            ),
            Tale(
                words=(r"(does|did|do)(n't| not) (learn|improve|converge)|not learn(ing)? anything|unchanged",),
                strength=0.5,
                unless=r"nan\b",
            ),
        ),
        patch={"schedule.epochs": 3.0, "method.target_modules": "all-linear"},
        scale={"optimizer.learning_rate": 3.0},
    ),
    Cause(
        label="catastrophic_forgetting",
        title="Catastrophic forgetting: abilities from before are lost",
        cause="Every step went into the new data alone, at a rate or for a time that overwrote what the model knew.",
        fix="Lower the learning rate, train for fewer steps, mix in 5 to 10 % of general data, and"
        " measure general text before and after.",
        tales=(
            Tale(words=(r"forg[eo]t(s|ten|ting)?\b|catastroph",), strength=0.85, unless=r"forgot to"),
            Tale(
                words=(
                    rf"(general|previous|original|pre-?train\w*|base|other|old|prior|existing|basic)<30>"
                    rf"(abilit|capabilit|knowledge|skill|tasks?\b|performance|benchmark|language"
                    rf"|chat)\w*<60>{_WORSE}",
                ),
                strength=0.85,
            ),
            Tale(
                words=(
                    rf"{_WORSE}<40>(general|previous|original|other|old|prior|existing)<20>"
                    r"(abilit|capabilit|knowledge|skill|tasks?\b|performance)",
                ),
                strength=0.85,
            ),
            Tale(
                words=(
                    rf"(HumanEval|MMLU|GSM8K|C-?Eval|CMMLU|HellaSwag|ARC|TruthfulQA|MT-?Bench"
                    rf"|benchmark)<60>{_WORSE}",
                ),
                strength=0.8,
            ),
            Tale(
                words=(
                    r"never (outputs?|answers?|speaks?|responds?)<40>(other|again|english|anything)"
                    r"|only (outputs?|answers?|speaks?|knows?)<30>(train|new|domain)",
                ),
                strength=0.75,
            ),
            Tale(
                words=(
                    r"(no longer|can ?not|can't|unable to)<40>(answer|chat|speak|follow|respond|general"
                    r"|english|before)",
                ),
                strength=0.6,
                unless=r"merg|template|stop",
            ),
            Tale(
                words=(
                    r"after (dpo|sft|fine-?tun|train|lora|ppo|rlhf)\w*",
                    r"random|unrelated|nonsense|no longer|can ?not any ?more|loses?",
                ),
                strength=0.6,
                unless=r"merg|template|\bnan\b",
            ),
        ),
        patch={"schedule.epochs": 1.0},
        scale={"optimizer.learning_rate": 0.3},
    ),
    Cause(
        label="repetition",
        title="Mode collapse: the answers repeat themselves",
        cause="Uniform or duplicated data, too many passes over it, or a preference objective pushed too far.",
        fix="More varied data without duplicates, fewer epochs, a lower learning rate; look at"
        " several samples while training.",
        tales=(
            Tale(
                words=(r"repeat(s|ed|ing|edly)?\b|repetiti(on|ve|ous)\w*|over and over|again and again",),
                strength=0.75,
                unless=r"repeated rows|repeats? the (### )?(input|prompt|question|instruction)",
            ),
            Tale(
                words=(
                    rf"{_ANSWERS}<30>(collaps|loop|stuck|degenerat)|mode collapse|same (word|token|sentence"
                    rf"|phrase|answer|output|text)",
                ),
                strength=0.8,
            ),
            Tale(words=(r"longer and longer|(grow|get|become)s? longer",), strength=0.55),
        ),
        patch={"schedule.epochs": 1.0, "data.deduplicate": True},
        scale={"optimizer.learning_rate": 0.5},
    ),
    Cause(
        label="eos_not_learned",
        title="The model does not learn to stop",
        cause="The stop token is no label: it is missing from the rows, or it is also the pad token,"
        " and padding is masked.",
        fix="End each answer with the stop token, pad with another one, and check that it is learned in every row.",
        tales=(
            Tale(
                words=(
                    r"pad_token(_id)?\b[^.\n]{0,20}=+\s*(\w+\.)?eos_token|pad(ding)? token<30>(is|=|same as"
                    r"|set to)<12>(eos|end)",
                    r"stop|end|eos|max|repeti|continu|generat",
                ),
                strength=0.86,
                unless=r"\bnan\b|does not have a padding",
            ),
            Tale(
                words=(
                    r"(never|not|n't|without|fails? to)\b<40>(stop|emit|terminat|generat|produc|output"
                    r"|predict|end\b)<40>"
                    r"(eos|</s>|end[- ]of|eot|im_end|stop|token|properly|generating|itself)",
                ),
                strength=0.7,
            ),
            Tale(
                words=(
                    r"(never|not|n't|won't) (stop|end)s?\b|endless|infinite(ly)?|non-?stop|(keeps?|continues?"
                    r"|goes) (on )?(generating|talking|forever)",
                ),
                strength=0.72,
                unless=r"loss",
            ),
            Tale(
                words=(
                    r"(generat|produc|output|continu)\w*<40>(after|beyond|past)<20>(answer|end|respon|eos)"
                    r"|does not terminate|run-on",
                ),
                strength=0.6,
            ),
            Tale(
                words=(
                    r"(until|till|to|reach\w*|hits?)<20>(max(imum)?[_ -]?(new|seq\w*|length|token|number"
                    r"|gen\w*))",
                ),
                strength=0.6,
                unless=r"set max|memory",
            ),
        ),
    ),
    Cause(
        label="no_learning_wrong_template",
        title="Training and use disagree about the prompt template",
        cause="The model was trained with one template and asked with another, or with tokens its base never learned.",
        fix="Use the model's own template in both places; for a base model one without untrained special tokens.",
        tales=(
            Tale(
                words=(
                    r"(chat |prompt )?template",
                    r"wrong|default|glitch|garbage|gibberish|nonsense|not (show|learn|work)|mismatch|differ"
                    r"|weird|strange",
                ),
                strength=0.82,
                unless=r"chat_template is not set|new line",
            ),
            Tale(
                words=(
                    r"(prompt|instruction|chat) format",
                    rf"different|mismatch|wrong|{_ANSWERS} (is|are) (garbage|nonsense)",
                ),
                strength=0.6,
            ),
            Tale(
                words=(
                    r"gibberish|garbage|nonsens\w*|garbled|glitch\w*",
                    r"gguf|ollama|llama\.cpp|web ?chat|inference|serv|deploy|vllm",
                ),
                strength=0.55,
            ),
        ),
    ),
)
