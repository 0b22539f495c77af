/**
 * Recovery (RULES 4.9; RR-CANON-R110 - R115): a seat without stacks slides one of its
 * markers a single step and pays with a buried ring.
 */

import { rayFrom } from './board.ts';
import type { Axis } from './board.ts';
import { windowsOf } from './lines.ts';
import { SKIP_RECOVERY, recoverySlide, recoveryWindow } from './moves.ts';
import type { Move } from './moves.ts';
import type { State } from './state.ts';

/** The seat's markers in a row through `to` along an axis, the marker of `from` having moved to `to`. */
function runThrough(state: State, seat: number, from: number, to: number, axis: Axis): number[] {
  const run = [to];
  for (const direction of [axis.backward, axis.forward]) {
    for (const cell of rayFrom(state.game.board, to, direction)) {
      if (cell === from || state.marker[cell] !== seat) break;
      run.push(cell);
    }
  }
  return run.sort((a, b) => a - b);
}

/** The runs through `to` after a slide. */
interface SlideRuns {
  /** Longest run, the first axis winning ties: decides whether the slide makes a line. */
  readonly best: readonly number[];
  /**
   * The run that is really collapsed: the first axis that reaches the detection length D,
   * not the longest (T13). Null if no run does.
   */
  readonly applied: readonly number[] | null;
  /** Whether the windows of `best` are on offer as option 2 (T30). */
  readonly offersWindows: boolean;
}

function runsAfterSlide(state: State, seat: number, from: number, to: number): SlideRuns {
  const { board, detectionLength } = state.game;
  const runs = board.recoveryAxes.map((axis) => runThrough(state, seat, from, to, axis));
  let best: number[] = [];
  let applied: number[] | null = null;
  for (const run of runs) {
    if (run.length > best.length) best = run;
    if (applied === null && run.length >= detectionLength) applied = run;
  }
  // T30: recorded lists lack the option-2 windows when, on a hexagonal board, the runs of
  // the last two axes tie as the longest.
  const [first, second, third] = runs.map((run) => run.length);
  const lastTwoTie = board.isHex && second === third && first! < second!;
  return { best, applied, offersWindows: !lastTwoTie };
}

/** Where the markers of a seat can slide: no marker and not collapsed; a stack is possible. */
function listSlides(state: State, seat: number): Array<readonly [from: number, to: number]> {
  const slides: Array<readonly [from: number, to: number]> = [];
  for (let from = 0; from < state.marker.length; from++) {
    if (state.marker[from] !== seat) continue;
    for (const to of state.game.board.adjacent[from]!) {
      if (state.marker[to] === 0 && state.collapsed[to] === 0) slides.push([from, to]);
    }
  }
  return slides;
}

/** Stacks from which the seat can take a buried ring. */
function extractionStacks(state: State, seat: number): number[] {
  const found: number[] = [];
  for (let cell = 0; cell < state.height.length; cell++) if (state.hasBuriedRing(cell, seat)) found.push(cell);
  return found;
}

/** Recovery part of the legal list in `movement` (6), with H5: one move per choice to be made. */
export function listRecoveryMoves(state: State, out: Move[]): void {
  const seat = state.player;
  if (!state.recoveryEligible(seat)) return;
  out.push(SKIP_RECOVERY);
  const slides = listSlides(state, seat);
  const payments = extractionStacks(state, seat);
  if (listLineSlides(state, seat, slides, payments, out)) return;
  for (const [from, to] of slides) {
    const kind = state.height[to] === 0 ? 'fallback' : 'stack_strike';
    for (const payment of payments) out.push(recoverySlide(from, to, kind, payment));
  }
}

/**
 * Lists the slides that make a line. Returns whether there is any, as then no other slide
 * is allowed - even if every line slide has to be dropped because it cannot be applied (T13).
 */
function listLineSlides(
  state: State, seat: number, slides: ReadonlyArray<readonly [from: number, to: number]>,
  payments: readonly number[], out: Move[],
): boolean {
  const { lineLength } = state.game;
  let found = false;
  if (state.markersOf[seat]! < lineLength) return found;
  for (const [from, to] of slides) {
    if (state.height[to]! > 0) continue;
    const { best, applied, offersWindows } = runsAfterSlide(state, seat, from, to);
    if (best.length < lineLength) continue;
    found = true;
    if (applied === null || applied.length < lineLength) continue;
    for (const payment of payments) out.push(recoverySlide(from, to, 'line_all', payment));
    if (best.length === lineLength || !offersWindows) continue;
    for (const window of windowsOf(best, lineLength)) {
      if (window.includes(to)) out.push(recoveryWindow(from, to, window)); // T16
    }
  }
  return found;
}

/** Effect of a recovery slide. The departed cell keeps no marker. */
export function applyRecovery(state: State, move: Move): void {
  const seat = state.player;
  switch (move.variant) {
    case 'fallback':
      state.setMarker(move.from, 0);
      state.setMarker(move.to, seat);
      break;
    case 'stack_strike':
      // The marker is spent; the struck ring is credited to the striker, whoever owned it.
      state.setMarker(move.from, 0);
      state.eliminateFromTop(move.to, 1, seat);
      break;
    default:
      applyLineSlide(state, seat, move);
  }
  // After a strike on the paying stack the ring taken may have come to its top (T15).
  if (move.variant !== 'line_window') state.extractBottomRing(move.via, seat);
  state.recovered = true;
}

function applyLineSlide(state: State, seat: number, move: Move): void {
  const { applied } = runsAfterSlide(state, seat, move.from, move.to);
  if (applied === null) throw new Error('recovery slide without a line');
  state.setMarker(move.from, 0);
  state.setMarker(move.to, seat);
  // A window of the best run is ignored when the applied run is of exact length (T14).
  const takesWindow = move.variant === 'line_window' && applied.length > state.game.lineLength;
  for (const cell of takesWindow ? move.chosen : applied) state.collapse(cell, seat);
}
