"""What is said when the input does not hold the reason."""

from __future__ import annotations

from finetune_exe.diagnosis.rules.rule import Cause, Sign

CAUSES = (
    Cause(
        label="wrapper_only",
        title="Only the launcher's summary is here; the reason is not",
        cause="The launcher reports that a child process ended; what the process itself printed is"
        " missing from this text.",
        fix="Look further up for the first Traceback of any rank, or start again with the child's"
        " output kept:"
        " torchrun --redirects 3 --log-dir logs, or 2>&1 | tee train.log.",
        signs=(
            Sign(
                pattern=r"ChildFailedError|Root Cause \(first observed failure\)|failed \(exitcode: ?\d+\)",
                strength=0.85,
            ),
            Sign(
                pattern=r"returned non-zero exit status|exits with return code = [1-9]|exited with code [1-9]",
                strength=0.7,
            ),
            Sign(pattern=r"Sending process \d+ closing signal|srun: error|ProcessExitedException", strength=0.6),
        ),
        consequence=True,
    ),
    Cause(
        label="unknown_error",
        title="An exception that is not among the known failures",
        cause="The line quoted is what ended the process, as far as can be seen.",
        fix="Search for that message together with the version of the library it comes from; a short"
        " program that raises it"
        " helps its maintainers.",
    ),
    Cause(
        label="interrupted",
        title="The run's events end before the run did",
        cause="The process was stopped from outside, is still running, or lost its disk.",
        fix="If it no longer runs, go on from the last whole checkpoint with `fine-tune train PLAN --resume`.",
    ),
    Cause(
        label="not_recognised",
        title="Nothing here matches a known failure",
        cause="There is no traceback, no loss and no wording that the table of known failures has.",
        fix="Give the whole log, the trainer_state.json or the run folder, or say in more words what"
        " you see and expected.",
    ),
)
