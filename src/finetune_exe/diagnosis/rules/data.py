"""Failures of data: rows, templates, tokens, labels, lengths."""

from __future__ import annotations

from finetune_exe.diagnosis.rules.rule import Cause, Sign, Tale

_DATA = r"dataset|preprocess|tokeniz|data/|map\(|collat|load_data|template"

CAUSES = (
    Cause(
        label="dataset_format",
        title="The data file does not have the form the program expects",
        cause="Rows differ in their columns or value types, a line is no single JSON object, or the"
        " named column does not exist.",
        fix="Check the file with `fine-tune dataset --check FILE`, which names each bad line, and"
        " map the columns to the names"
        " the trainer expects.",
        signs=(
            Sign(
                pattern=r"ArrowInvalid|JSON parse error|ArrowTypeError|ArrowNotImplementedError|CastError",
                strength=0.95,
            ),
            Sign(
                pattern=r"couldn't cast|column names don't match|all the data files must have the same columns",
                strength=0.95,
            ),
            Sign(
                pattern=r"JSONDecodeError|Extra data: line|Expecting (value|property name|',' delimiter)",
                strength=0.85,
                unless=r"http|config\.json|tokenizer",
            ),
            Sign(
                pattern=r"KeyError: ['\"](messages?|conversations?|instruction|input|output|prompt|completion"
                r"|response|text|from|value"
                r"|user|assistant|role|content|chosen|rejected|question|answer|human|gpt|system|train"
                r"|validation|labels?)['\"]",
                strength=0.93,
            ),
            Sign(
                pattern=r"metadata\.jsonl|DatasetGenerationError|An error occurred while generating the dataset",
                strength=0.7,
            ),
            Sign(
                pattern=r"Conversation roles must alternate|roles must alternate|unexpected role|Only user and"
                r" assistant roles",
                strength=0.9,
            ),
            Sign(pattern=r"UndefinedError: .{0,60}has no attribute '(content|role)'", strength=0.9),
            Sign(
                pattern=r"num_samples should be a positive|'utf-8' codec can't decode|Dataset .{0,60}(is empty"
                r"|doesn't exist)"
                r"|Column .{0,40} not in the dataset|No columns in the dataset match|EmptyDatasetError"
                r"|DataFilesNotFoundError",
                strength=0.85,
            ),
            Sign(
                pattern=r"^(Key|Attribute|Type|Value|Index|Assertion)Error",
                strength=0.55,
                within=_DATA,
                unless=r"keyword argument|architectures|dtype|chat_template|pad",
            ),
            Sign(
                pattern=r"'NoneType' object .{0,60}'?(data|column_names|map|num_rows|features|train|get|iterable)",
                strength=0.7,
            ),
            Sign(pattern=r"(train_?dataset|dataset)\b.{0,60}(is None|empty)", strength=0.6),
        ),
        tales=(
            Tale(
                words=(
                    r"(json|csv|row|column|line|dataset|file)\w*<60>(format|key|two objects|hold|parse"
                    r"|malformed|invalid|missing)",
                    r"load|read|parse|error|fail",
                ),
                strength=0.6,
            ),
        ),
    ),
    Cause(
        label="collate_error",
        title="Rows of different lengths were put in one batch unpadded",
        cause="Columns that are still text, or labels that are not padded with the inputs, reach the collator.",
        fix="Tokenise the columns and drop the text ones, and use a collator that pads the labels too.",
        signs=(
            Sign(pattern=r"Unable to create tensor, you should probably activate (truncation|padding)", strength=0.95),
            Sign(pattern=r"too many dimensions 'str'|excessive nesting", strength=0.7),
            Sign(
                pattern=r"stack expects each tensor to be equal size|expected sequence of length \d+ at dim",
                strength=0.9,
            ),
        ),
    ),
    Cause(
        label="pad_token_missing",
        title="The tokenizer has no padding token",
        cause="Batches need one, and this tokenizer (Llama's and GPT-2's among them) ships without.",
        fix="Name a reserved token as pad token. Do not take the end-of-text token: it would be"
        " masked with the padding, and"
        " the model would never learn to stop.",
        signs=(
            Sign(
                pattern=r"does not have a padding token|no padding token is defined|pad_token.{0,30}(is not set"
                r"|must be (set|defined))",
                strength=0.95,
                unless=r"Setting|but it is not set yet",
            ),
        ),
    ),
    Cause(
        label="chat_template_missing",
        title="The tokenizer has no chat template",
        cause="Conversations cannot be turned into text: base models, and some exports, ship without a template.",
        fix="Take the instruct variant's tokenizer, or give a template file; then serve the model with the same one.",
        signs=(
            Sign(
                pattern=r"chat_template is not set|does not have a chat[_ ]template|no chat template|requires? a"
                r" chat template"
                r"|no default chat template",
                strength=0.95,
            ),
        ),
        tales=(Tale(words=(r"chat.?template<30>(missing|not set|none|absent)",), strength=0.8),),
        patch={"data.chat_template": "plain"},
    ),
    Cause(
        label="vocab_mismatch",
        title="A token id lies beyond the embedding table",
        cause="Tokens were added to the tokenizer but the model's embeddings were not resized, or the"
        " two belong to different models.",
        fix="Call resize_token_embeddings(len(tokenizer)) and train the new rows, or go back to the"
        " model's own tokenizer.",
        signs=(
            Sign(pattern=r"srcIndex < srcSelectDimSize|index out of range in self|indexSelect\w*Index", strength=0.95),
            Sign(
                pattern=r"vectorized_gather_kernel|embedding.{0,40}(out of range|out of bounds)|Target \d+ is out"
                r" of bounds",
                strength=0.85,
            ),
            Sign(pattern=r"size mismatch for .{0,60}(embed_tokens|lm_head|wte|word_embeddings)\.weight", strength=0.72),
            Sign(pattern=r"device-side assert triggered", strength=0.55),
        ),
        tales=(
            Tale(
                words=(r"(token|vocab)\w*<40>(added|new|resiz|larger|exceed)", r"embedding|index|assert"), strength=0.6
            ),
        ),
    ),
    Cause(
        label="truncation",
        title="Rows are longer than the longest sequence allowed",
        cause="What lies beyond the limit is cut, often the answer itself; some programs drop the row or stop instead.",
        fix="Raise the longest sequence as far as the model and the memory allow, or shorten or drop"
        " the long rows; make sure"
        " that no answer loses its end.",
        signs=(
            Sign(pattern=r"longer than the specified maximum sequence length", strength=0.75),
            Sign(
                pattern=r"larger than the max_length|MaxLengthError|exceeds? the (maximum|max) (sequence |context"
                r" |model )?length",
                strength=0.92,
            ),
            Sign(
                pattern=r"(input|prompt|sequence|sample|row)s? (is|are|was|were) (too long|longer than)|dropp\w+"
                r" .{0,40}(long|exceed)",
                strength=0.7,
            ),
        ),
        tales=(
            Tale(
                words=(
                    r"(truncat|\bcut\b|cut off|clipped|chopped)\w*<80>(token|length|\d{3,}|context|answer"
                    r"|respons)",
                ),
                strength=0.8,
            ),
            Tale(
                words=(r"longer than<20>\d{3,} tokens|max_(seq_)?length<40>(ignored|not respected|stays)",),
                strength=0.65,
                unless=r"memory|\boom",
            ),
        ),
        scale={"data.max_length": 2.0},
    ),
    Cause(
        label="loss_zero_masked",
        title="No token is learned: every label is masked",
        cause="The markers that tell answers from prompts were not found in the text, or the answer"
        " was cut off; with every"
        " label at -100 the loss is 0 or NaN and nothing is trained.",
        fix="Print one row with its labels. Use the template the data was rendered with, give the"
        " markers exactly as they"
        " stand in it, and allow rows long enough to hold the answer.",
        signs=(
            Sign(
                pattern=r"(all|most) (of the )?labels in your dataset are -100|Training losses will be all 0",
                strength=0.97,
            ),
            Sign(
                pattern=r"Could not find response key|instruction key .{0,40}in the following instance|will be"
                r" ignored in loss",
                strength=0.9,
            ),
            Sign(
                pattern=r"fully masked (examples|rows)|no (trainable|learned|supervised) tokens|all tokens are"
                r" masked",
                strength=0.85,
            ),
        ),
        tales=(
            Tale(words=(r"(labels?|targets?)<40>(all|only|every)?<20>-100",), strength=0.75),
            Tale(words=(r"\bloss\b<20>(is|stays|always|exactly|=|:|of)<10>\b(0|0\.0+|zero)\b",), strength=0.75),
        ),
    ),
    Cause(
        label="double_bos",
        title="The prompt begins with two begin-of-text tokens",
        cause="The chat template writes the token and the tokenizer adds it again; training and serving then differ.",
        fix="Tokenise rendered conversations without adding special tokens, or take the token out of"
        " the template, in both places.",
        signs=(
            Sign(
                pattern=r"(2|two|double|duplicate)[ _]?(leading )?.{0,24}\bBOS|BOS token .{0,60}also starts with"
                r" a BOS",
                strength=0.95,
            ),
        ),
        tales=(Tale(words=(r"(double|two|twice|duplicate|extra)<30>(bos\b|<s>|begin_of_text)",), strength=0.9),),
    ),
    Cause(
        label="packing_contamination",
        title="Packed samples see each other",
        cause="Several rows share one sequence and attention crosses their borders, so the model"
        " learns from unrelated text.",
        fix="Use an attention that respects the borders (block-diagonal, positions restarted), or"
        " turn packing off and group by length.",
        tales=(
            Tale(
                words=(
                    r"\bpack(ing|ed)?\b",
                    r"other (examples?|samples?|rows?)|cross|contaminat|attend|worse|quality|degrad|leak",
                ),
                strength=0.8,
                unless=r"memory|\boom",
            ),
        ),
        patch={"batch.group_by_length": True},
    ),
)
