/** Victory and standings (RULES 5; RR-CANON-R060 - R062, R170 - R173). */

import type { State, Victory, VictoryKind, VictoryReason } from './state.ts';

function seatsOf(state: State): number[] {
  return Array.from({ length: state.game.players }, (_, index) => index + 1);
}

function won(winner: number, reason: VictoryReason, kind: VictoryKind, handCountsAsEliminated = false): Victory {
  return { winner, reason, kind, handCountsAsEliminated };
}

/**
 * The stateless victory test (5.2), first hit wins. The turn machinery asks it at the end
 * of a turn only (5.1, T2); a record may ask it after every move to report early wins.
 */
export function evaluateVictory(state: State): Victory | null {
  return ringVictory(state) ?? territoryVictory(state) ?? boardVictory(state);
}

/** 5.2 no. 1: the first seat that reaches the ring threshold (R061). */
function ringVictory(state: State): Victory | null {
  for (let seat = 1; seat <= state.game.players; seat++) {
    if (state.eliminated[seat]! >= state.game.ringThreshold) return won(seat, 'ring_elimination', 'ring_threshold');
  }
  return null;
}

/** 5.2 no. 2: enough collapsed cells, and more than all others together (R062, T27). */
function territoryVictory(state: State): Victory | null {
  let total = 0;
  for (let seat = 1; seat <= state.game.players; seat++) total += state.collapsedOf[seat]!;
  for (let seat = 1; seat <= state.game.players; seat++) {
    const own = state.collapsedOf[seat]!;
    if (own >= state.game.territoryThreshold && own > total - own) {
      return won(seat, 'territory_control', 'territory_threshold');
    }
  }
  return null;
}

/** 5.2 nos. 3 - 5: sole material while there are stacks, stalemate on a bare board. */
function boardVictory(state: State): Victory | null {
  let owner = 0;
  let controllers = 0;
  let withRings = 0;
  for (let seat = 1; seat <= state.game.players; seat++) {
    if (state.hasRings(seat)) withRings++;
    if (!state.controlsAny(seat)) continue;
    owner = seat;
    controllers++;
  }
  if (controllers === 0) return stalemateVictory(state);
  if (controllers === 1 && withRings === 1) return won(owner, 'last_player_standing', 'lps_sole_material');
  return null;
}

/** A ring on an otherwise empty board needs an unmarked cell with a neighbour to move to (5.2 no. 5). */
function bareBoardPlacementExists(state: State): boolean {
  const { board } = state.game;
  for (let cell = 0; cell < board.cellCount; cell++) {
    if (state.collapsed[cell] !== 0 || state.marker[cell] !== 0) continue;
    if (board.adjacent[cell]!.some((other) => state.collapsed[other] === 0)) return true;
  }
  return false;
}

/** The seat with the unique positive maximum of a score, 0 if there is none. */
function uniqueLeader(seats: readonly number[], score: (seat: number) => number): number {
  const top = Math.max(...seats.map(score));
  const leaders = seats.filter((seat) => score(seat) === top);
  return top > 0 && leaders.length === 1 ? leaders[0]! : 0;
}

/** Global stalemate ladder (5.2 no. 5; R173). Rings in hand are compared, not written back (T4). */
function stalemateVictory(state: State): Victory | null {
  const seats = seatsOf(state);
  const anyHand = seats.some((seat) => state.hand[seat]! > 0);
  if (anyHand && bareBoardPlacementExists(state)) return null;

  const byTerritory = uniqueLeader(seats, (seat) => state.collapsedOf[seat]!);
  if (byTerritory > 0) return won(byTerritory, 'territory_control', 'stalemate_territory', anyHand);

  const byRings = uniqueLeader(seats, (seat) => state.eliminated[seat]! + state.hand[seat]!);
  if (byRings > 0) return won(byRings, 'ring_elimination', 'stalemate_elim', anyHand);

  const byMarkers = uniqueLeader(seats, (seat) => state.markersOf[seat]!);
  if (byMarkers > 0) return won(byMarkers, 'last_player_standing', 'stalemate_markers_or_lastactor', anyHand);

  // The mover of the previous step; the move being processed is not yet in the history (T35).
  if (state.lastActor > 0) {
    return won(state.lastActor, 'last_player_standing', 'stalemate_markers_or_lastactor', anyHand);
  }
  return won(1, 'tiebreaker_by_player_number', 'stalemate_markers_or_lastactor', anyHand);
}

/** Seats by collapsed cells, eliminated rings and markers; the winner is not moved up (5.3). */
export function standings(state: State): number[] {
  return seatsOf(state).sort(
    (a, b) =>
      state.collapsedOf[b]! - state.collapsedOf[a]! ||
      state.eliminated[b]! - state.eliminated[a]! ||
      state.markersOf[b]! - state.markersOf[a]! ||
      a - b,
  );
}
