"""Failures of the installed software and hardware."""

from __future__ import annotations

from finetune_exe.diagnosis.rules.rule import Cause, Sign, Tale

CAUSES = (
    Cause(
        label="api_mismatch",
        title="Two libraries of different times do not fit together",
        cause="One calls what the other has renamed, moved or not yet got; or the model is newer than"
        " the installed transformers.",
        fix="Install the versions that the project pins; otherwise upgrade transformers, peft, trl"
        " and accelerate together.",
        signs=(
            Sign(pattern=r"unexpected keyword argument|missing \d+ required (positional|keyword)", strength=0.88),
            Sign(
                pattern=r"cannot import name|Failed to import transformers",
                strength=0.9,
                unless=r"flash_attn|bitsandbytes|triton",
            ),
            Sign(
                pattern=r"does not recognize this architecture|Unrecognized (model|configuration class)|Tokenizer"
                r" class .{0,60}does not exist",
                strength=0.93,
            ),
            Sign(
                pattern=r"KeyError: ['\"](architectures|[a-z]+\d*(?:[_.]?\d+)?)['\"]",
                strength=0.6,
                within=r"configuration_auto|CONFIG_MAPPING|auto_factory",
            ),
            Sign(
                pattern=r"KeyError: ['\"](architectures|model_type|llama|mistral|qwen\w*|gemma\w*|phi\w*|mixtral"
                r"|deepseek\w*)['\"]",
                strength=0.88,
            ),
            Sign(
                pattern=r"(module|object) ['\"]?[\w.]+['\"]? has no attribute",
                strength=0.65,
                unless=r"NoneType|'(str|list|dict)' object",
            ),
            Sign(
                pattern=r"requires? (transformers|torch|peft|trl|accelerate|bitsandbytes|tokenizers"
                r"|huggingface[-_]hub)\s?[<>=!]=?",
                strength=0.85,
            ),
            Sign(pattern=r"VersionConflict|is required for a normal functioning of this module", strength=0.88),
        ),
        tales=(
            Tale(
                words=(
                    r"after (an? )?(upgrad|updat)\w*|newer version|older version|downgrad",
                    r"transformers|torch|peft|trl|version",
                ),
                strength=0.45,
            ),
        ),
    ),
    Cause(
        label="env_missing_module",
        title="A Python package is not installed where the program runs",
        cause="It was never installed, or the launcher starts another Python than the one it was installed into.",
        fix="Install it with `python -m pip` of the very Python that runs, and start the launcher as `python -m`.",
        signs=(
            Sign(
                pattern=r"ModuleNotFoundError: No module named|^ImportError: No module named",
                strength=0.9,
                unless=r"flash_attn|bitsandbytes|triton",
            ),
            Sign(pattern=r"(command not found|PackageNotFoundError|No package metadata was found)", strength=0.75),
            Sign(pattern=r"ImportError: .{0,60}requires the .{0,40} library but it was not found", strength=0.88),
        ),
    ),
    Cause(
        label="bnb_cuda_setup",
        title="bitsandbytes has no CUDA library that fits",
        cause="Its compiled part is missing or was built for another CUDA than the installed one.",
        fix="Run `python -m bitsandbytes`, install a current wheel, and make sure that torch itself sees the GPU.",
        signs=(
            Sign(
                pattern=r"CUDA Setup failed|libbitsandbytes_\w+\.(so|dll)|bitsandbytes .{0,60}compiled without GPU",
                strength=0.95,
            ),
            Sign(
                pattern=r"(bitsandbytes|bnb).{0,80}(undefined symbol|cannot open shared object|not (compiled"
                r"|installed|available))",
                strength=0.9,
            ),
            Sign(
                pattern=r"No module named 'bitsandbytes|Using `?bitsandbytes`? (4|8)-bit quantization requires"
                r"|importlib.{0,30}bitsandbytes",
                strength=0.88,
            ),
            Sign(pattern=r"cadam32bit_grad_fp32|cquantize_blockwise|cget_managed_ptr", strength=0.9),
        ),
        tales=(Tale(words=(r"bitsandbytes|\bbnb\b", r"cuda|not found|fail|compil"), strength=0.5),),
    ),
    Cause(
        label="flash_attn_missing",
        title="FlashAttention is asked for but cannot be used here",
        cause="It is not installed, too old, built for another torch, or the GPU is older than Ampere.",
        fix='Use attn_implementation="sdpa", which every GPU has; or install a flash-attn wheel for'
        " this torch on Ampere or newer.",
        signs=(
            Sign(
                pattern=r"FlashAttention\w*.{0,60}(toggled on|only supports|cannot be used|is not (installed"
                r"|available))",
                strength=0.96,
            ),
            Sign(
                pattern=r"flash_?attn.{0,60}(undefined symbol|not installed|No module|required|package (seems"
                r"|version))"
                r"|No module named 'flash_attn|flash_attn_2_cuda|cannot import name .{0,40}flash_attn",
                strength=0.93,
            ),
        ),
    ),
    Cause(
        label="cuda_arch",
        title="This build of PyTorch has no code for this GPU",
        cause="The GPU is newer, or much older, than the builds this torch was compiled for.",
        fix="Install the torch build whose CUDA supports the GPU (cu128 or later for Blackwell),"
        " with a driver to match.",
        signs=(
            Sign(
                pattern=r"no kernel image is available|sm_\d+ is not compatible|CUDA capability sm_\d+", strength=0.96
            ),
            Sign(
                pattern=r"forward compatibility was attempted|driver (version )?is (too old|insufficient)|found"
                r" an old version of the CUDA driver"
                r"|PTX .{0,40}(toolchain|JIT)|ptxas.{0,40}sm_\d+",
                strength=0.8,
            ),
        ),
    ),
    Cause(
        label="compile_triton",
        title="A kernel could not be compiled at run time",
        cause="torch.compile or Triton needs a C compiler, Python.h and libcuda where the program runs.",
        fix="Install gcc and the python3-dev headers, make libcuda visible to the linker, or turn"
        " compilation off (TORCHDYNAMO_DISABLE=1).",
        signs=(
            Sign(
                pattern=r"BackendCompilerFailed|InductorError|torch\._dynamo\.exc|torch\._inductor\.exc", strength=0.92
            ),
            Sign(
                pattern=r"libcuda\.so cannot found|cannot find -lcuda|triton.{0,80}(compil\w+ (fail|error)|Failed"
                r" to find C compiler)"
                r"|Failed to find C compiler",
                strength=0.93,
            ),
            Sign(
                pattern=r"CalledProcessError.{0,60}(gcc|cc1|clang)\b.{0,400}|/(gcc|cc)['\"], ?['\"]?/tmp", strength=0.85
            ),
            Sign(
                pattern=r"(CompilationError|OutOfResources|PTXASError)\b|Cannot find a working triton"
                r"|TritonMissing|No module named 'triton",
                strength=0.85,
            ),
            Sign(pattern=r"cuda_utils\.c", strength=0.8),
        ),
    ),
    Cause(
        label="extension_build",
        title="A compiled extension could not be built",
        cause="DeepSpeed, flash-attn or apex compile when first used; the CUDA toolkit differs from"
        " torch's, or headers are missing.",
        fix="Install the toolkit of torch's CUDA version (torch.version.cuda) and the Python"
        " headers, or a ready-made wheel.",
        signs=(
            Sign(
                pattern=r"CUDAMismatchException|CUDA version .{0,20}does not match the version|mismatches the"
                r" version that was used to compile",
                strength=0.96,
            ),
            Sign(pattern=r"Python\.h: No such file|python_headers\.h", strength=0.75),
            Sign(
                pattern=r"Error building extension|ninja: build stopped|MissingCUDAException|CUDA_HOME (does not"
                r" exist|environment variable is not set)"
                r"|Failed building wheel|unable to compile cuda/cpp extensions|nvcc.{0,40}(not found"
                r"|fatal)|(fused_adam|cpu_adam|utils)\.so: cannot open",
                strength=0.9,
            ),
        ),
    ),
    Cause(
        label="hub_access",
        title="The model hub refuses the download",
        cause="The repository is gated or private, no token or one without the right was sent, or its"
        " code was not trusted.",
        fix="Accept the terms on the model's page, log in (`hf auth login`) with a token that may"
        " read gated repositories, and"
        " where the model brings its own code read it before trust_remote_code.",
        signs=(
            Sign(pattern=r"GatedRepoError|gated repo|RepositoryNotFoundError|RevisionNotFoundError", strength=0.96),
            Sign(
                pattern=r"\b(401|403) (Client Error|Forbidden|Unauthorized)|is restricted\. You must|Invalid"
                r" (user token|username or password|credentials)",
                strength=0.93,
            ),
            Sign(
                pattern=r"requires you to execute the (configuration|modeling|dataset|tokenizer)?.{0,20}(file"
                r"|code)|trust_remote_code=True",
                strength=0.85,
                unless=r"`trust_remote_code` is not supported anymore|ignored",
            ),
            Sign(
                pattern=r"is not a local folder and is not a valid model identifier|We couldn't connect to"
                r" 'https?://huggingface|LocalEntryNotFoundError"
                r"|OfflineModeIsEnabled|Max retries exceeded.{0,80}huggingface|Connection (error"
                r"|reset).{0,60}huggingface",
                strength=0.9,
            ),
            Sign(pattern=r"\b429 Client Error|Too Many Requests", strength=0.8),
        ),
        tales=(
            Tale(
                words=(
                    r"gated|\b40[13]\b|access (denied|token)|unauthori[sz]ed|log ?in",
                    r"hub|hugging|model|repo|download",
                ),
                strength=0.7,
            ),
        ),
    ),
    Cause(
        label="lr_type_string",
        title="The learning rate was read as text, not as a number",
        cause="YAML 1.1 takes 2e-5 for a string: it wants a point in the number.",
        fix="Write 2.0e-5 (or 0.00002). Plans of this program are YAML 1.2, where both are numbers.",
        signs=(
            Sign(
                pattern=r"not supported between instances of '(float|int)' and 'str'|not supported between"
                r" instances of 'str' and '(float|int)'",
                strength=0.88,
            ),
            Sign(
                pattern=r"unsupported operand type\(s\) for .{0,6}: '(float|int|str)' and '(str|float|int)'"
                r"|Invalid learning rate: \d",
                strength=0.6,
            ),
            Sign(pattern=r"could not convert string to float.{0,20}\de-\d", strength=0.7),
        ),
    ),
    Cause(
        label="no_loss_returned",
        title="The model was given nothing to compute a loss from",
        cause="The batch has no labels column, or the trainer dropped it, or a patched model no longer"
        " returns the loss.",
        fix="Give the rows labels, set remove_unused_columns to False where a custom collator makes"
        " them, and upgrade the trainer.",
        signs=(
            Sign(pattern=r"did not return a loss from the inputs", strength=0.97),
            Sign(
                pattern=r"'NoneType' object has no attribute 'backward'|KeyError: ['\"]loss['\"]|unsupported"
                r" operand .{0,30}'NoneType' and '(int|float)'",
                strength=0.6,
            ),
        ),
    ),
)
