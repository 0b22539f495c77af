/** Territory (RULES 4.7; RR-CANON-R140 - R145). */

import { chooseTerritory, sameCells } from './moves.ts';
import type { Move } from './moves.ts';
import type { State } from './state.ts';

/** |A|: seats with a ring on the board at any depth (T11). */
function activeSeatCount(state: State): number {
  let count = 0;
  for (let seat = 1; seat <= state.game.players; seat++) if (state.ringsOnBoard[seat]! > 0) count++;
  return count;
}

function bitCount(mask: number): number {
  let count = 0;
  for (let rest = mask; rest !== 0; rest &= rest - 1) count++;
  return count;
}

/** A stack that could pay for a region: controlled, or in recovery context any with a buried ring. */
export function isPaymentStack(state: State, cell: number, seat: number): boolean {
  return state.recovered ? state.hasBuriedRing(cell, seat) : state.controller[cell] === seat;
}

function paymentStackCount(state: State, seat: number): number {
  if (!state.recovered) return state.stacksOf[seat]!;
  let count = 0;
  for (let cell = 0; cell < state.height.length; cell++) if (state.hasBuriedRing(cell, seat)) count++;
  return count;
}

/** Scratch memory of a search over the board. */
interface Scratch {
  /** Cells visited in the current search carry its number. */
  readonly visited: Int32Array;
  search: number;
  readonly queue: Int16Array;
}

const scratchByCellCount = new Map<number, Scratch>();

function beginSearch(cellCount: number): Scratch {
  let scratch = scratchByCellCount.get(cellCount);
  if (scratch === undefined) {
    scratch = { visited: new Int32Array(cellCount), search: 0, queue: new Int16Array(cellCount) };
    scratchByCellCount.set(cellCount, scratch);
  }
  scratch.search++;
  return scratch;
}

/**
 * Regions that the seat may process, each as ascending cells, each cell set once.
 *
 * Candidates come from one search per border colour: (a) cells that are neither collapsed
 * nor hold a marker of that colour, for every colour with a marker on the board, keeping
 * components with fewer controllers than there are active seats; (b) with no border
 * colour, cells that are not collapsed, keeping components with exactly one controller.
 * Whose markers they are does not matter (T10). A candidate is processable when a payment
 * stack stands outside it.
 */
export function findRegions(state: State, seat: number, firstOnly = false): number[][] {
  const regions: number[][] = [];
  const active = activeSeatCount(state);
  const payments = paymentStackCount(state, seat);
  if (active === 0 || payments === 0) return regions;
  for (let colour = 0; colour <= state.game.players; colour++) {
    if (colour > 0 && state.markersOf[colour] === 0) continue;
    searchColour(state, seat, colour, active, payments, firstOnly, regions);
    if (firstOnly && regions.length > 0) break;
  }
  return regions;
}

/** One search; `colour` 0 is the search without a border colour. */
function searchColour(
  state: State, seat: number, colour: number, active: number, payments: number, firstOnly: boolean,
  regions: number[][],
): void {
  const { board } = state.game;
  const { marker, collapsed, controller } = state;
  const { visited, search, queue } = beginSearch(board.cellCount);
  for (let cell = 0; cell < board.cellCount; cell++) {
    if (collapsed[cell] !== 0 || (colour !== 0 && marker[cell] === colour)) visited[cell] = search;
  }
  for (let start = 0; start < board.cellCount; start++) {
    if (visited[start] === search) continue;
    visited[start] = search;
    queue[0] = start;
    let size = 1;
    let controllers = 0;
    for (let next = 0; next < size; next++) {
      const cell = queue[next]!;
      controllers |= 1 << controller[cell]!; // bit 0 collects the cells without a stack
      const neighbours = board.territoryAdjacent[cell]!;
      for (let i = 0; i < neighbours.length; i++) {
        const other = neighbours[i]!;
        if (visited[other] === search) continue;
        visited[other] = search;
        queue[size++] = other;
      }
    }
    const inside = bitCount(controllers & ~1);
    if (inside >= active || (colour === 0 && inside !== 1)) continue;
    const component = Array.from(queue.subarray(0, size)).sort((a, b) => a - b);
    const paymentsInside = component.filter((cell) => isPaymentStack(state, cell, seat)).length;
    if (paymentsInside >= payments) continue;
    if (!regions.some((known) => sameCells(known, component))) regions.push(component);
    if (firstOnly) return;
  }
}

export function anyRegion(state: State, seat: number): boolean {
  return findRegions(state, seat, true).length > 0;
}

export function listRegionMoves(state: State, out: Move[]): void {
  for (const region of findRegions(state, state.player)) out.push(chooseTerritory(region));
}

/**
 * Border markers that collapse with a region (T9): all markers next to a region cell, of
 * any colour, then everything reached from them over wide neighbours.
 */
function borderMarkers(state: State, region: readonly number[]): number[] {
  const board = state.game.board;
  const { visited, search } = beginSearch(board.cellCount);
  for (const cell of region) visited[cell] = search;
  const border: number[] = [];
  const take = (cell: number): void => {
    if (visited[cell] === search || state.marker[cell] === 0) return;
    visited[cell] = search;
    border.push(cell);
  };
  for (const cell of region) board.territoryAdjacent[cell]!.forEach(take);
  for (let next = 0; next < border.length; next++) board.wideAdjacent[border[next]!]!.forEach(take);
  return border;
}

/** Effect of `choose_territory_option`. */
export function applyRegion(state: State, region: readonly number[]): void {
  const seat = state.player;
  const border = borderMarkers(state, region);
  for (const cell of region) {
    const height = state.height[cell]!;
    if (height > 0) state.eliminateFromTop(cell, height, seat);
    state.collapse(cell, seat);
  }
  for (const cell of border) state.collapse(cell, seat);
  state.regionDebt = true;
}
