"""``reluctant flash``: load a bitstream into a board."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reluctant.golden.errors import UserError

if TYPE_CHECKING:
    from reluctant.boards.board import Board

__all__ = ["flash"]


def flash(
    board: Annotated[
        str | None, typer.Option("--board", "-b", metavar="NAME", help="A board's name, or a file such as my_board.py.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="Folder of the build. [default: out/NAME]")
    ] = None,
    permanent: Annotated[
        bool, typer.Option("--permanent", help="Write the flash memory, so that the board starts with it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command, do nothing.")] = False,
    udev: Annotated[bool, typer.Option("--udev", help="Print rules that let users reach the boards.")] = False,
) -> None:
    """Load the bitstream of 'reluctant build' into a board, through openFPGALoader.

    Without --permanent it is gone at power-off, on boards that can be loaded so. Linux lets only root reach a new USB
    device: --udev prints the rules that change this.

    \b
    Examples:
      reluctant flash --board icebreaker
      reluctant flash --board ulx3s-85f --permanent --dry-run
      reluctant flash --udev | sudo tee /etc/udev/rules.d/60-reluctant.rules
    """
    from reluctant.boards.board import boards, load_board
    from reluctant.boards.flash import flash_command, run_loader, udev_rules

    if udev:
        print(udev_rules([load_board(board)] if board else boards().values()), end="")
        return
    if board is None:
        raise UserError(f"--board NAME is needed: one of {', '.join(boards())}, or a file such as my_board.py")
    chosen = load_board(board)
    command = flash_command(chosen, _bitstream(chosen, out or Path("out") / chosen.name), permanent=permanent)
    if dry_run:
        import shlex

        print(shlex.join(command))
        return
    run_loader(chosen, command)
    print(f"{chosen.title} is loaded")


def _bitstream(board: "Board", folder: Path) -> Path:
    hint = f"'reluctant build --board {board.name}' makes one"
    try:
        description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        name, built_for = description["bitstream"], description["board"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder}: holds no build for a board: {hint}") from None
    if built_for != board.name:
        raise UserError(f"{folder}: holds a build for {built_for}, not for {board.name}: --from names another folder")
    if name is None:
        raise UserError(f"{folder}: that build has no bitstream, its timing was not met: {hint}")
    if not (folder / name).is_file():
        raise UserError(f"{folder / name}: there is no such file: {hint}")
    return folder / name
