/** Lines (RULES 4.6; RR-CANON-R120 - R123). */

import { NONE, rayFrom } from './board.ts';
import type { Axis } from './board.ts';
import { chooseLineOption, processLine } from './moves.ts';
import type { Move } from './moves.ts';
import type { State } from './state.ts';

/** The neighbouring cell in a direction, or NONE at the edge. */
function stepFrom(state: State, cell: number, direction: number): number {
  const ray = rayFrom(state.game.board, cell, direction);
  return ray.length === 0 ? NONE : ray[0]!;
}

/** The maximal run of the seat's markers that starts at `cell` and goes `axis.forward`, or null if the run began earlier. */
function runStartingAt(state: State, cell: number, axis: Axis, seat: number): number[] | null {
  const before = stepFrom(state, cell, axis.backward);
  if (before !== NONE && state.marker[before] === seat) return null;
  const run = [cell];
  const ray = rayFrom(state.game.board, cell, axis.forward);
  for (let index = 0; index < ray.length && state.marker[ray[index]!] === seat; index++) run.push(ray[index]!);
  return run;
}

/**
 * Eligible lines of a seat: maximal runs of length at least max(D, L), cells ascending.
 * D is why runs of exactly 3 never count on hex8 with three or four players (T5).
 */
export function findLines(state: State, seat: number): number[][] {
  const { board, lineLength, detectionLength } = state.game;
  const shortest = Math.max(lineLength, detectionLength);
  const lines: number[][] = [];
  if (state.markersOf[seat]! < shortest) return lines;
  for (let cell = 0; cell < board.cellCount; cell++) {
    if (state.marker[cell] !== seat) continue;
    for (const axis of board.lineAxes) {
      const run = runStartingAt(state, cell, axis, seat);
      if (run !== null && run.length >= shortest) lines.push(run.sort((a, b) => a - b));
    }
  }
  return lines;
}

/** All stretches of `length` neighbouring cells of a line. */
export function windowsOf(line: readonly number[], length: number): number[][] {
  const windows: number[][] = [];
  for (let start = 0; start + length <= line.length; start++) windows.push(line.slice(start, start + length));
  return windows;
}

/** Options for the eligible lines (H4): exact lines whole, longer ones whole or any window of L cells. */
export function listLineMoves(state: State, out: Move[]): void {
  const { lineLength } = state.game;
  for (const line of findLines(state, state.player)) {
    if (line.length === lineLength) {
      out.push(processLine(line));
      continue;
    }
    out.push(chooseLineOption(line, line));
    for (const window of windowsOf(line, lineLength)) out.push(chooseLineOption(line, window));
  }
}

/**
 * Effect of a line move. The debt is one flag that every line move sets anew, so a later
 * move can replace or cancel an unpaid debt (T6); without a stack there is nothing to owe.
 */
export function applyLine(state: State, line: readonly number[], chosen: readonly number[]): void {
  const seat = state.player;
  for (const cell of chosen) state.collapse(cell, seat);
  state.lineDebt = chosen.length === line.length && state.controlsAny(seat);
}
