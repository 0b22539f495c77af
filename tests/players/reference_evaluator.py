"""RULES.md 9.1 a second time, slow and literal, over dictionaries: what the compiled evaluator is held against."""

from __future__ import annotations

from itertools import combinations

from ringrift_ops.rules.boards import BOARDS, Board, Cell


class Position:
    """A state string as dictionaries. Stacks are (controller, height, cap)."""

    def __init__(self, board: Board, players: int, text: str) -> None:
        fields = text.split(";")
        self.board, self.players = board, players
        self.on_board = frozenset(board.cells)
        self.hand, self.eliminated, self.territory = (
            [int(value) for value in field[1:].split("/")] for field in fields[7:10]
        )
        self.stacks = {cell: _stack(rings[::-1]) for cell, rings in _cells(fields[12])}
        self.markers = {cell: int(owner) for cell, owner in _cells(fields[13])}
        self.collapsed = {cell: int(owner) for cell, owner in _cells(fields[14])}

    def own(self, seat: int) -> list[Cell]:
        return [cell for cell, stack in self.stacks.items() if stack[0] == seat]

    def markers_of(self, seat: int) -> list[Cell]:
        return [cell for cell, owner in self.markers.items() if owner == seat]

    def step(self, cell: Cell, direction: Cell, steps: int = 1) -> Cell:
        return cell[0] + steps * direction[0], cell[1] + steps * direction[1]

    def neighbours(self, cell: Cell) -> list[Cell]:
        return [c for c in (self.step(cell, d) for d in self.board.directions) if c in self.on_board]

    def distance(self, a: Cell, b: Cell) -> int:
        dx, dy = a[0] - b[0], a[1] - b[1]
        return abs(dx) + abs(dy) + (abs(dx + dy) if self.board.is_hex else 0)

    def usable(self, cell: Cell, against: int | None = None) -> int:
        """Neighbours to step on, and stacks of others (or of one seat) that could be captured."""
        seat, _, cap = self.stacks[cell]
        total = 0
        for near in self.neighbours(cell):
            if near in self.collapsed:
                continue
            if near not in self.stacks:
                total += 1
            else:
                controller, _, its_cap = self.stacks[near]
                total += controller != seat and against in (None, controller) and its_cap <= cap
        return total

    def proximity(self, seat: int) -> float:
        rings = self.board.victory_rings(self.players) - self.eliminated[seat - 1]
        own, total = self.territory[seat - 1], sum(self.territory)
        needed = max(self.board.territory_minimum(self.players) - own, total - own + 1 - own)
        return 1000.0 if rings <= 0 or needed <= 0 else 50 / rings + 50 / needed

    def can_act(self, seat: int) -> bool:
        return self.hand[seat - 1] > 0 or any(self.usable(cell) for cell in self.own(seat))


def _cells(field: str) -> list[tuple[Cell, str]]:
    entries = [entry.split(":") for entry in field[1:].split()]
    return [((int(where.split(",")[0]), int(where.split(",")[1])), what) for where, what in entries]


def _stack(rings: str) -> tuple[int, int, int]:
    return int(rings[0]), len(rings), len(rings) - len(rings.lstrip(rings[0]))


def _heights(position: Position, cells: list[Cell]) -> float:
    return sum(min(h, 5) + 0.1 * max(0, h - 5) for h in (position.stacks[c][1] for c in cells))


def _line_potential(position: Position, seat: int) -> float:
    total = 0
    for cell in position.markers_of(seat):
        for d in position.board.directions:
            for steps, points in ((1, 1), (2, 2), (3, 5)):
                if position.markers.get(position.step(cell, d, steps)) != seat:
                    break
                total += points
    return total


def _connectivity(position: Position, seat: int) -> float:
    total = 0.0
    for cell in position.markers_of(seat):
        for d in position.board.directions:
            near, far = position.step(cell, d), position.step(cell, d, 2)
            if position.markers.get(near) == seat:
                total += 1
            elif position.markers.get(far) == seat and near not in position.stacks and near not in position.collapsed:
                total += 0.5
    return total


def _closure(position: Position, order: list[Cell]) -> float:
    if len(order) < 2:
        return 0.0
    distances = [position.distance(a, b) for a, b in combinations(order[:10], 2)]
    return 10 / max(1, sum(distances) / len(distances)) + 0.5 * len(order)


def _safety(position: Position, seat: int, enemies: list[Cell]) -> float:
    nearest = [min((position.distance(c, e) for e in enemies), default=9) for c in position.markers_of(seat)]
    return -sum(3 - d for d in nearest if d <= 2)


def _visible_differences(position: Position, seat: int) -> list[int]:
    """Cap of each visible opponent's stack minus the cap of the own stack that sees it."""
    found = []
    for cell in position.own(seat):
        for d in position.board.directions:
            for steps in range(1, 21):
                seen = position.step(cell, d, steps)
                if seen not in position.on_board or seen in position.collapsed:
                    break
                if seen in position.stacks:
                    if position.stacks[seen][0] != seat:
                        found.append(position.stacks[seen][2] - position.stacks[cell][2])
                    break
    return found


def terms(config: str, text: str, seat: int, order: list[Cell]) -> dict[str, float]:
    """Weighted terms and total, balanced weights; ``order``: all the seat's markers as placed."""
    board, players = BOARDS[config.split("_")[0]], int(config.split("_")[1][0])
    x = Position(board, players, text)
    opponents = [q for q in range(1, players + 1) if q != seat]
    mine, theirs = x.own(seat), [c for c, s in x.stacks.items() if s[0] != seat]
    n = len(mine)
    differences = _visible_differences(x, seat)
    nearness = sorted((x.proximity(q) for q in opponents), reverse=True)
    usable = [x.usable(cell) for cell in mine]
    outlets = sum(1 for u in usable if u) + (
        1 if x.hand[seat - 1] > 0 and len(x.stacks) + len(x.collapsed) < len(board.cells) else 0
    )
    out = {
        "stackControl": 10 * (n - len(theirs))
        + 5 * (_heights(x, mine) - _heights(x, theirs))
        + (-50 if n == 0 else -10 if n == 1 else 2 * n),
        "territory": 8 * (x.territory[seat - 1] - max(x.territory[q - 1] for q in opponents)),
        "ringsInHand": 3 * x.hand[seat - 1],
        "centerControl": 4 * sum(1 if x.stacks[c][0] == seat else -0.5 for c in board.centre if c in x.stacks),
        "opponentThreats": 6
        * sum(
            -0.5 * (x.stacks[a][2] - x.stacks[c][2])
            for c in mine
            for a in x.neighbours(c)
            if a in x.stacks and x.stacks[a][0] != seat
        ),
        "mobility": 4 * (sum(usable) - sum(x.usable(c, against=seat) for c in theirs)),
        "eliminatedRings": 12 * x.eliminated[seat - 1],
        "linePotential": 7 * _line_potential(x, seat),
        "victoryProximity": 20 * x.proximity(seat),
        "opponentVictoryThreat": -6 * max(0.0, nearness[0] - x.proximity(seat)),
        "markerCount": 1.5 * len(x.markers_of(seat)),
        "vulnerability": -8 * sum(d for d in differences if d > 0),
        "overtakePotential": 8 * sum(-d for d in differences if d < 0),
        "territoryClosure": 10 * _closure(x, order),
        "lineConnectivity": 6 * _connectivity(x, seat),
        "territorySafety": 5 * _safety(x, seat, theirs),
        "stackMobility": 4 * sum(u or -5 for u in usable),
        "forcedEliminationRisk": -4 * (max(0.0, 2 - outlets / n) if n else 0.0),
        "lpsActionAdvantage": 0.0,
        "multiLeaderThreat": 0.0,
    }
    if players > 2:
        idle = sum(1 for q in opponents if not x.can_act(q)) / len(opponents)
        out["lpsActionAdvantage"] = 2 * (idle if x.can_act(seat) else -1.0)
        out["multiLeaderThreat"] = -2 * (nearness[0] - nearness[1])
    return out | {"total": sum(out.values())}
