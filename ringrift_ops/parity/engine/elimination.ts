/** Paying with rings: line, territory and recovery payments, forced elimination (RULES 4.5, 4.8; RR-CANON-R100, R122, R145). */

import { anyMove } from './movement.ts';
import { eliminateRings, forcedElimination } from './moves.ts';
import type { EliminationContext, Move } from './moves.ts';
import { anyPlacement } from './placement.ts';
import type { State } from './state.ts';
import { isPaymentStack } from './territory.ts';

/** One ring from the top of any controlled stack, for a line. */
export function listLinePayments(state: State, out: Move[]): void {
  for (let cell = 0; cell < state.height.length; cell++) {
    if (state.controller[cell] === state.player) out.push(eliminateRings(cell, 'line'));
  }
}

/** The cap of a controlled stack, or in recovery context one buried ring, for a region. */
export function listRegionPayments(state: State, out: Move[]): void {
  const context: EliminationContext = state.recovered ? 'recovery' : 'territory';
  for (let cell = 0; cell < state.height.length; cell++) {
    if (isPaymentStack(state, cell, state.player)) out.push(eliminateRings(cell, context));
  }
}

/** Effect of `eliminate_rings_from_stack`; the context decides how much is removed. */
export function applyElimination(state: State, cell: number, context: EliminationContext): void {
  const seat = state.player;
  switch (context) {
    case 'line':
      state.eliminateFromTop(cell, 1, seat);
      state.lineDebt = false;
      return;
    case 'territory':
      state.eliminateFromTop(cell, state.cap[cell]!, seat);
      state.regionDebt = false;
      return;
    case 'recovery':
      state.extractBottomRing(cell, seat);
      state.regionDebt = false;
  }
}

/** `feAvailable` of 2.4. */
export function forcedEliminationAvailable(state: State, seat: number): boolean {
  return state.controlsAny(seat) && !anyPlacement(state, seat) && !anyMove(state, seat);
}

export function listForcedEliminations(state: State, out: Move[]): void {
  if (!forcedEliminationAvailable(state, state.player)) return;
  for (let cell = 0; cell < state.height.length; cell++) {
    if (state.controller[cell] === state.player) out.push(forcedElimination(cell));
  }
}

export function applyForcedElimination(state: State, cell: number): void {
  state.eliminateFromTop(cell, state.cap[cell]!, state.player);
}
