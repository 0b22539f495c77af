"""Wrong rules, one at a time: text replacements in a copy of an engine's sources."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ringrift_ops.parity.node import ENGINE_FOLDER

PACKAGE = ENGINE_FOLDER.parents[1]


@dataclass(frozen=True)
class Mutation:
    """``right`` stands exactly once in ``file``; ``config`` is where random games reach the rule."""

    name: str
    rule: str
    file: str
    right: str
    wrong: str
    config: str = "square8_2p"
    swap_rule: bool = False

    def __str__(self) -> str:
        return self.name.replace(" ", "_")

    def plant(self, folder: Path) -> None:
        """Put the mutation into the copy of the sources in ``folder``; it must fit exactly once."""
        path = folder / self.file
        text = path.read_text()
        found = text.count(self.right)
        assert found == 1, f"mutation {self.name!r} fits {found} times into {self.file}: {self.right!r}"
        path.write_text(text.replace(self.right, self.wrong))


def mutated_typescript(folder: Path, mutation: Mutation) -> Path:
    """The server of a copy of the TypeScript engine with the mutation in it."""
    copy = folder / "engine"
    shutil.copytree(ENGINE_FOLDER, copy, ignore=shutil.ignore_patterns("node_modules"))
    mutation.plant(copy)
    return copy / "server.ts"


TYPESCRIPT = (
    Mutation(
        "line length",
        "1.4",
        "game.ts",
        "return isSmall && players > 2 ? 3 : 4;",
        "return isSmall && players > 2 ? 3 : 5;",
    ),
    Mutation(
        "ring threshold one too high",
        "5.2 no. 1",
        "game.ts",
        "(2 / 3 + (players - 1) / 3)),",
        "(2 / 3 + (players - 1) / 3)) + 1,",
    ),
    Mutation(
        "territory threshold one too high",
        "5.2 no. 2",
        "game.ts",
        "territoryThreshold: Math.floor(board.cellCount / players) + 1",
        "territoryThreshold: Math.floor(board.cellCount / players) + 2",
    ),
    Mutation(
        "last player standing after two rounds",
        "5.4",
        "game.ts",
        "lpsRounds: options.lpsRounds ?? 3,",
        "lpsRounds: options.lpsRounds ?? 2,",
    ),
    Mutation(
        "sole controller wins although another seat has rings",
        "5.2 no. 4",
        "victory.ts",
        "if (controllers === 1 && withRings === 1)",
        "if (controllers === 1)",
    ),
    Mutation(
        "rings in hand not counted in a stalemate",
        "5.2 no. 5",
        "victory.ts",
        "state.eliminated[seat]! + state.hand[seat]!",
        "state.eliminated[seat]!",
        config="square8_4p",
    ),
    Mutation(
        "dead placement allowed",
        "4.1",
        "placement.ts",
        "return hasActionFrom(state, cell, height + count, ownCap + count);",
        "return true;",
    ),
    Mutation(
        "must-move not enforced",
        "3.2 note 2",
        "turn.ts",
        "if (state.mustMoveFrom !== NONE && state.mustMoveFrom !== cell) continue;",
        "",
    ),
    Mutation(
        "marker not flipped",
        "4.2 step 2",
        "movement.ts",
        "else if (owner !== 0) state.setMarker(cell, seat);",
        "else if (owner !== 0) state.setMarker(cell, owner);",
    ),
    Mutation(
        "own marker not collapsed",
        "4.2 step 2",
        "movement.ts",
        "if (owner === seat) state.collapse(cell, seat);",
        "if (owner === seat) continue;",
    ),
    Mutation(
        "landing on a marker costs no ring",
        "4.2 step 3",
        "movement.ts",
        "const top = rings.pop();",
        "const top = rings.length > 99 ? rings.pop() : undefined;",
    ),
    Mutation(
        "shortest capture missing",
        "4.3",
        "movement.ts",
        "if (index + 1 >= height) out.push(capture(",
        "if (index + 1 > height) out.push(capture(",
    ),
    Mutation(
        "equal caps not captured",
        "4.3",
        "movement.ts",
        "state.cap[target]! > cap",
        "state.cap[target]! >= cap",
    ),
    Mutation(
        "captured ring goes on top",
        "4.3",
        "movement.ts",
        "attacker.unshift(ring)",
        "attacker.push(ring)",
    ),
    Mutation(
        "line paid with the whole cap",
        "4.5",
        "elimination.ts",
        "state.eliminateFromTop(cell, 1, seat);",
        "state.eliminateFromTop(cell, state.cap[cell]!, seat);",
    ),
    Mutation(
        "window of a line not free",
        "4.6",
        "lines.ts",
        "state.lineDebt = chosen.length === line.length && state.controlsAny(seat);",
        "state.lineDebt = state.controlsAny(seat);",
        config="hex8_2p",
    ),
    Mutation(
        "borders do not spread",
        "4.7 T9",
        "territory.ts",
        "for (let next = 0; next < border.length; next++) board.wideAdjacent",
        "for (let next = 0; next < 0; next++) board.wideAdjacent",
    ),
    Mutation(
        "region rule (b) without its seat",
        "4.7",
        "territory.ts",
        "(colour === 0 && inside !== 1)",
        "(colour === 0 && inside > 1)",
    ),
    Mutation(
        "region paid with one ring",
        "4.8",
        "elimination.ts",
        "state.eliminateFromTop(cell, state.cap[cell]!, seat);",
        "state.eliminateFromTop(cell, 1, seat);",
    ),
    Mutation(
        "recovery takes the uppermost buried ring",
        "4.9",
        "state.ts",
        "const index = rings.indexOf(seat);",
        "const index = rings.lastIndexOf(seat);",
        config="hex8_2p",
    ),
    Mutation(
        "stack strike missing",
        "4.9",
        "recovery.ts",
        "if (state.marker[to] === 0 && state.collapsed[to] === 0) slides.push",
        "if (state.marker[to] === 0 && state.blocked[to] === 0) slides.push",
    ),
    Mutation(
        "forced elimination skipped",
        "4.8 R100",
        "turn.ts",
        "if (mustForceElimination(state)) state.phase = 'forced_elimination';",
        "if (mustForceElimination(state) && state.player > 4) state.phase = 'forced_elimination';",
    ),
    Mutation(
        "seats with buried rings lose their turn",
        "3.3",
        "turn.ts",
        "if (state.hasRings(next)) break;",
        "if (state.hasTurnMaterial(next)) break;",
        config="square8_3p",
    ),
    Mutation(
        "pie rule offered again",
        "4.12",
        "state.ts",
        "this.swapRule && !this.swapped && !this.seatTwoHasMoved && !this.over &&",
        "this.swapRule && !this.swapped && !this.over &&",
        swap_rule=True,
    ),
)

PYTHON = (
    Mutation(
        "landing on a marker is credited to another seat",
        "4.2 step 3",
        "rules/movement.py",
        "s[S_ELIMINATED + owner_of(word) - 1] += 1",
        "s[S_ELIMINATED + owner_of(word) % 2] += 1",
    ),
    Mutation(
        "captured ring does not lengthen a pure stack's cap",
        "4.3 R102",
        "rules/stacks.py",
        "if cap == height and owner == owner_of(word):",
        "if cap == height and owner == 0:",
    ),
)
