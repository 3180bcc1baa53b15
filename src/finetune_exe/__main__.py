"""Let `python -m finetune_exe` be the `fine-tune` command."""

from finetune_exe.cli.main import main

if __name__ == "__main__":
    main()
