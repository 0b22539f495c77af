/** Simple moves and captures (RULES 4.2, 4.3; RR-CANON-R090 - R092, R101 - R103). */

import { NONE, rayFrom } from './board.ts';
import { capture, moveStack } from './moves.ts';
import type { Move } from './moves.ts';
import type { State } from './state.ts';

/**
 * Index on the ray of the first cell that is not free (the ray's length if all are).
 * Index i on a ray is the cell at distance i + 1.
 */
function firstBlocked(state: State, ray: Int16Array): number {
  let index = 0;
  while (index < ray.length && state.blocked[ray[index]!] === 0) index++;
  return index;
}

/**
 * Would a stack of this height and cap on this cell have a simple move or a capture?
 * The shortest landing is reachable whenever a longer one is, so it is enough to look for
 * that (appendix C, shortcuts).
 */
export function hasActionFrom(state: State, cell: number, height: number, cap: number): boolean {
  const board = state.game.board;
  for (let direction = 0; direction < board.directionCount; direction++) {
    const ray = rayFrom(board, cell, direction);
    if (ray.length < height) continue;
    const block = firstBlocked(state, ray);
    if (block >= height || captureOverBlock(state, ray, block, height, cap)) return true;
  }
  return false;
}

/** Is there a capture of the stack at index `block` of the ray? */
function captureOverBlock(state: State, ray: Int16Array, block: number, height: number, cap: number): boolean {
  if (block >= ray.length) return false;
  const targetCap = state.cap[ray[block]!]!; // 0 where the cell is collapsed
  if (targetCap === 0 || targetCap > cap) return false;
  const shortestLanding = Math.max(block + 1, height - 1);
  if (shortestLanding >= ray.length) return false;
  for (let index = block + 1; index <= shortestLanding; index++) {
    if (state.blocked[ray[index]!] !== 0) return false;
  }
  return true;
}

/** Does the stack on this cell have a capture segment? */
function hasCaptureFrom(state: State, cell: number): boolean {
  const board = state.game.board;
  const height = state.height[cell]!;
  const cap = state.cap[cell]!;
  for (let direction = 0; direction < board.directionCount; direction++) {
    const ray = rayFrom(board, cell, direction);
    if (captureOverBlock(state, ray, firstBlocked(state, ray), height, cap)) return true;
  }
  return false;
}

/** `canAct` for some stack of the seat, whatever `mustMoveFrom` says. */
export function anyStackCanAct(state: State, seat: number): boolean {
  if (!state.controlsAny(seat)) return false;
  for (let cell = 0; cell < state.height.length; cell++) {
    if (state.controller[cell] === seat && hasActionFrom(state, cell, state.height[cell]!, state.cap[cell]!)) return true;
  }
  return false;
}

/** `anyMove` of 2.4. */
export function anyMove(state: State, seat: number): boolean {
  const bound = state.mustMoveFrom;
  if (bound === NONE) return anyStackCanAct(state, seat);
  return state.controller[bound] === seat && hasActionFrom(state, bound, state.height[bound]!, state.cap[bound]!);
}

/** All simple moves of the stack on a cell (4.2). Distance at least the stack height. */
export function listStackMoves(state: State, cell: number, out: Move[]): void {
  const board = state.game.board;
  const height = state.height[cell]!;
  for (let direction = 0; direction < board.directionCount; direction++) {
    const ray = rayFrom(board, cell, direction);
    const block = firstBlocked(state, ray);
    for (let index = height - 1; index < block; index++) out.push(moveStack(cell, ray[index]!));
  }
}

/** All capture segments of the stack on a cell (4.3). Only caps are compared (T20). */
export function listCaptures(
  state: State, cell: number, type: 'overtaking_capture' | 'continue_capture_segment', out: Move[],
): void {
  const board = state.game.board;
  const height = state.height[cell]!;
  const cap = state.cap[cell]!;
  for (let direction = 0; direction < board.directionCount; direction++) {
    const ray = rayFrom(board, cell, direction);
    const block = firstBlocked(state, ray);
    if (block >= ray.length) continue;
    const target = ray[block]!;
    if (state.height[target] === 0 || state.cap[target]! > cap) continue;
    for (let index = block + 1; index < ray.length && state.blocked[ray[index]!] === 0; index++) {
      if (index + 1 >= height) out.push(capture(type, cell, target, ray[index]!));
    }
  }
}

/** The ray from one cell through another, and the index of that other cell on it. */
function rayTowards(state: State, from: number, to: number): { ray: Int16Array; index: number } {
  const board = state.game.board;
  for (let direction = 0; direction < board.directionCount; direction++) {
    const ray = rayFrom(board, from, direction);
    const index = ray.indexOf(to);
    if (index >= 0) return { ray, index };
  }
  throw new Error(`no straight line from ${board.labels[from]} to ${board.labels[to]}`);
}

/** Own markers passed over collapse, others flip (4.2 step 2). */
function processPassedMarkers(state: State, ray: Int16Array, begin: number, end: number): void {
  const seat = state.player;
  for (let index = begin; index < end; index++) {
    const cell = ray[index]!;
    const owner = state.marker[cell];
    if (owner === seat) state.collapse(cell, seat);
    else if (owner !== 0) state.setMarker(cell, seat);
  }
}

/** Puts a stack down; a marker on the landing cell costs its top ring (4.2 step 3, T21, T22). */
function land(state: State, cell: number, rings: number[]): void {
  if (state.marker[cell] !== 0) {
    state.setMarker(cell, 0);
    const top = rings.pop();
    if (top !== undefined) state.eliminated[top]!++;
  }
  state.setStack(cell, rings);
}

/** The stack left `from` for `to`: a stack bound to the turn stays bound at its new cell (3.2 note 2). */
function followMustMove(state: State, from: number, to: number): void {
  if (state.mustMoveFrom === from) state.mustMoveFrom = to;
}

/** Effect of `move_stack`. */
export function applyStackMove(state: State, from: number, to: number): void {
  const { ray, index } = rayTowards(state, from, to);
  const moving = state.rings[from]!.slice();
  state.setStack(from, []);
  state.setMarker(from, state.player);
  processPassedMarkers(state, ray, 0, index);
  land(state, to, moving);
  followMustMove(state, from, to);
}

/** Effect of a capture segment: the target's top ring goes to the bottom of the attacker. */
export function applyCapture(state: State, from: number, target: number, to: number): void {
  const { ray, index } = rayTowards(state, from, to);
  const targetIndex = ray.indexOf(target);
  const attacker = state.rings[from]!.slice();
  const captured = state.rings[target]!.slice();
  state.setStack(from, []);
  state.setMarker(from, state.player);
  processPassedMarkers(state, ray, 0, targetIndex);
  processPassedMarkers(state, ray, targetIndex + 1, index);
  const ring = captured.pop();
  if (ring !== undefined) attacker.unshift(ring);
  state.setStack(target, captured);
  land(state, to, attacker);
  followMustMove(state, from, to);
}

/** May (or must) the seat to move go on capturing with the stack that has just landed? */
export function canCaptureOn(state: State, cell: number): boolean {
  return state.controller[cell] === state.player && hasCaptureFrom(state, cell);
}
