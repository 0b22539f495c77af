/** Last player standing over rounds (RULES 5.4, H7; RR-CANON-R172). */

import { anyMove } from './movement.ts';
import { anyPlacement } from './placement.ts';
import { UNSEEN } from './state.ts';
import type { State } from './state.ts';

/** `realAction` of 2.4: availability counts, not what is played (T3); recovery does not count (T34). */
function hasRealAction(state: State, seat: number): boolean {
  return anyMove(state, seat) || anyPlacement(state, seat);
}

/** A completed round is exclusive if exactly one seat that still has rings had a real action. */
function judgeRound(state: State): void {
  const { lps, game } = state;
  let able = 0;
  let count = 0;
  for (let seat = 1; seat <= game.players; seat++) {
    if (lps.seen[seat] !== 1 || !state.hasRings(seat)) continue;
    able = seat;
    count++;
  }
  if (count !== 1) {
    lps.rounds = 0;
    lps.exclusive = 0;
  } else if (able === lps.exclusive) {
    lps.rounds++;
  } else {
    lps.exclusive = able;
    lps.rounds = 1;
  }
}

/**
 * Runs at every turn start but the first of the game: updates the tracker for the seat to
 * move, then returns whether that seat has won.
 */
export function trackTurnStart(state: State): boolean {
  const { lps, game } = state;
  const seat = state.player;
  if (!state.hasRings(seat)) return false;

  if (lps.leader === 0 || !state.hasRings(lps.leader)) {
    lps.leader = seat;
    lps.seen.fill(UNSEEN);
    if (lps.exclusive === 0 || !state.hasRings(lps.exclusive)) {
      lps.rounds = 0;
      lps.exclusive = 0;
    }
  } else if (lps.leader === seat && lps.seen.some((mark) => mark !== UNSEEN)) {
    judgeRound(state);
    lps.seen.fill(UNSEEN);
  }
  const real = hasRealAction(state, seat);
  lps.seen[seat] = real ? 1 : 0;

  if (!real || lps.exclusive !== seat || lps.rounds < game.lpsRounds) return false;
  for (let other = 1; other <= game.players; other++) {
    if (other !== seat && state.hasRings(other) && hasRealAction(state, other)) return false;
  }
  return true;
}
