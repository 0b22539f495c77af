/** Ring placement (RULES 4.1; RR-CANON-R080 - R082). */

import { hasActionFrom, anyStackCanAct } from './movement.ts';
import { NO_PLACEMENT_ACTION, SKIP_PLACEMENT, SWAP_SIDES, placeRing } from './moves.ts';
import type { Move } from './moves.ts';
import type { State } from './state.ts';

const MAX_RINGS_PER_PLACEMENT = 3;

/** Conditions 1 - 5 of 4.1 for one cell and count. */
function countIsLegal(state: State, seat: number, cell: number, count: number): boolean {
  if (state.hand[seat]! < count) return false;
  if (state.collapsed[cell] !== 0 || state.marker[cell] !== 0) return false;
  const height = state.height[cell]!;
  if (height > 0 && count > 1) return false;
  if (state.ringsOnBoard[seat]! + count > state.game.ringsPerPlayer) return false;
  // No dead placement (R081); placing on an opponent's stack leaves a cap of `count` (T19).
  const ownCap = state.controller[cell] === seat ? state.cap[cell]! : 0;
  return hasActionFrom(state, cell, height + count, ownCap + count);
}

/** `anyPlacement` of 2.4. */
export function anyPlacement(state: State, seat: number): boolean {
  if (state.hand[seat] === 0) return false;
  for (let cell = 0; cell < state.height.length; cell++) if (countIsLegal(state, seat, cell, 1)) return true;
  return false;
}

/** A voluntary skip needs something else to do: an able stack, or recovery (T25, T32). */
export function skipPlacementIsLegal(state: State, seat: number): boolean {
  if (state.hand[seat] === 0) return false;
  return state.controlsAny(seat) ? anyStackCanAct(state, seat) : state.recoveryEligible(seat);
}

/** Legal list of `ring_placement` (6). */
export function listPlacementMoves(state: State): Move[] {
  const seat = state.player;
  const moves: Move[] = [];
  if (state.hand[seat]! > 0) {
    for (let cell = 0; cell < state.height.length; cell++) {
      // Condition 6: counts 2 and 3 are only offered where a single ring is legal (H3).
      if (!countIsLegal(state, seat, cell, 1)) continue;
      moves.push(placeRing(cell, 1));
      for (let count = 2; count <= MAX_RINGS_PER_PLACEMENT; count++) {
        if (countIsLegal(state, seat, cell, count)) moves.push(placeRing(cell, count));
      }
    }
    if (skipPlacementIsLegal(state, seat)) moves.push(SKIP_PLACEMENT);
  }
  if (moves.length === 0) moves.push(NO_PLACEMENT_ACTION);
  if (state.swapAvailable()) moves.push(SWAP_SIDES);
  return moves;
}

/** Effect of `place_ring`: the rings go on top and bind the turn to this stack. */
export function applyPlacement(state: State, cell: number, count: number): void {
  const seat = state.player;
  const rings = state.rings[cell]!.slice();
  for (let i = 0; i < count; i++) rings.push(seat);
  state.setStack(cell, rings);
  state.hand[seat]! -= count;
  state.mustMoveFrom = cell;
}
