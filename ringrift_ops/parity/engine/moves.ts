/**
 * Moves (RULES 4, 6). Every move is one flat record; the constructors below say which
 * fields a type uses. Fields that a type does not use hold `NONE`, 0, '' or an empty list,
 * so two moves are the same move exactly when all fields are equal.
 */

import { NONE } from './board.ts';

export type MoveType =
  | 'place_ring' | 'skip_placement' | 'no_placement_action' | 'swap_sides'
  | 'move_stack' | 'overtaking_capture' | 'continue_capture_segment'
  | 'skip_capture' | 'no_movement_action' | 'recovery_slide' | 'skip_recovery'
  | 'process_line' | 'choose_line_option' | 'no_line_action'
  | 'eliminate_rings_from_stack'
  | 'choose_territory_option' | 'skip_territory_processing' | 'no_territory_action'
  | 'forced_elimination';

/** Context of an `eliminate_rings_from_stack` move (4.5). */
export type EliminationContext = 'line' | 'territory' | 'recovery';

/** The four kinds of recovery slide (4.9). */
export type RecoveryKind = 'line_all' | 'line_window' | 'fallback' | 'stack_strike';

export interface Move {
  readonly type: MoveType;
  /** Cell a stack or marker leaves. */
  readonly from: number;
  /** Captured stack, or the stack a recovery takes its buried ring from. */
  readonly via: number;
  /** Cell of a placement, landing or elimination. */
  readonly to: number;
  /** Rings placed. */
  readonly count: number;
  readonly variant: '' | EliminationContext | RecoveryKind;
  /** Line or region cells, ascending. */
  readonly cells: readonly number[];
  /** Cells to collapse out of a line, ascending. */
  readonly chosen: readonly number[];
}

const NO_CELLS: readonly number[] = [];

function plain(type: MoveType, from: number, via: number, to: number): Move {
  return { type, from, via, to, count: 0, variant: '', cells: NO_CELLS, chosen: NO_CELLS };
}

export function placeRing(to: number, count: number): Move {
  return { type: 'place_ring', from: NONE, via: NONE, to, count, variant: '', cells: NO_CELLS, chosen: NO_CELLS };
}

export function moveStack(from: number, to: number): Move {
  return plain('move_stack', from, NONE, to);
}

export function capture(
  type: 'overtaking_capture' | 'continue_capture_segment', from: number, target: number, to: number,
): Move {
  return plain(type, from, target, to);
}

export function forcedElimination(to: number): Move {
  return plain('forced_elimination', NONE, NONE, to);
}

export function eliminateRings(to: number, context: EliminationContext): Move {
  return {
    type: 'eliminate_rings_from_stack', from: NONE, via: NONE, to, count: 0, variant: context,
    cells: NO_CELLS, chosen: NO_CELLS,
  };
}

/** A recovery that pays with a buried ring of the stack on `extraction`. */
export function recoverySlide(
  from: number, to: number, kind: Exclude<RecoveryKind, 'line_window'>, extraction: number,
): Move {
  return {
    type: 'recovery_slide', from, via: extraction, to, count: 0, variant: kind, cells: NO_CELLS, chosen: NO_CELLS,
  };
}

/** Recovery option 2: collapse a window of the line, free of charge. */
export function recoveryWindow(from: number, to: number, window: readonly number[]): Move {
  return {
    type: 'recovery_slide', from, via: NONE, to, count: 0, variant: 'line_window', cells: NO_CELLS, chosen: window,
  };
}

export function processLine(cells: readonly number[]): Move {
  return {
    type: 'process_line', from: NONE, via: NONE, to: NONE, count: 0, variant: '', cells, chosen: NO_CELLS,
  };
}

export function chooseLineOption(cells: readonly number[], chosen: readonly number[]): Move {
  return { type: 'choose_line_option', from: NONE, via: NONE, to: NONE, count: 0, variant: '', cells, chosen };
}

export function chooseTerritory(cells: readonly number[]): Move {
  return {
    type: 'choose_territory_option', from: NONE, via: NONE, to: NONE, count: 0, variant: '', cells, chosen: NO_CELLS,
  };
}

export const SKIP_PLACEMENT = plain('skip_placement', NONE, NONE, NONE);
export const NO_PLACEMENT_ACTION = plain('no_placement_action', NONE, NONE, NONE);
export const SWAP_SIDES = plain('swap_sides', NONE, NONE, NONE);
export const SKIP_CAPTURE = plain('skip_capture', NONE, NONE, NONE);
export const NO_MOVEMENT_ACTION = plain('no_movement_action', NONE, NONE, NONE);
export const SKIP_RECOVERY = plain('skip_recovery', NONE, NONE, NONE);
export const NO_LINE_ACTION = plain('no_line_action', NONE, NONE, NONE);
export const SKIP_TERRITORY = plain('skip_territory_processing', NONE, NONE, NONE);
export const NO_TERRITORY_ACTION = plain('no_territory_action', NONE, NONE, NONE);

/** The moves without any field, with their keys (appendix A). */
export const FIELDLESS_MOVES: ReadonlyArray<readonly [key: string, move: Move]> = [
  ['-P', SKIP_PLACEMENT],
  ['0P', NO_PLACEMENT_ACTION],
  ['SW', SWAP_SIDES],
  ['-C', SKIP_CAPTURE],
  ['0M', NO_MOVEMENT_ACTION],
  ['-R', SKIP_RECOVERY],
  ['0L', NO_LINE_ACTION],
  ['-T', SKIP_TERRITORY],
  ['0T', NO_TERRITORY_ACTION],
];

/** Bookkeeping moves do not count as having acted (2.3). */
export function isBookkeeping(type: MoveType): boolean {
  switch (type) {
    case 'no_placement_action':
    case 'no_movement_action':
    case 'no_line_action':
    case 'no_territory_action':
    case 'skip_placement':
    case 'skip_capture':
    case 'skip_recovery':
    case 'skip_territory_processing':
      return true;
    default:
      return false;
  }
}

export function sameCells(a: readonly number[], b: readonly number[]): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Identity of moves (6, last paragraph). */
export function sameMove(a: Move, b: Move): boolean {
  return (
    a.to === b.to && a.from === b.from && a.type === b.type && a.via === b.via && a.count === b.count &&
    a.variant === b.variant && sameCells(a.cells, b.cells) && sameCells(a.chosen, b.chosen)
  );
}
