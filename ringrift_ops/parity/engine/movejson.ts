/** RingRift move JSON: finding the legal move that a recorded JSON move means. */

import { NONE } from './board.ts';
import type { Board } from './board.ts';
import { findMove } from './movekey.ts';
import {
  FIELDLESS_MOVES, capture, chooseLineOption, chooseTerritory, eliminateRings, forcedElimination, moveStack,
  placeRing, processLine, recoverySlide, recoveryWindow,
} from './moves.ts';
import type { Move, MoveType } from './moves.ts';

/** A parsed JSON object of unknown content. */
export type JsonObject = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const FIELDLESS_BY_TYPE = new Map<string, Move>(FIELDLESS_MOVES.map(([, move]) => [move.type, move]));

/** Cell of a position object `{x, y[, z]}` or of a position key `"x,y[,z]"`; NONE if there is none. */
function readCell(board: Board, value: unknown): number {
  if (typeof value === 'string') return board.cellByKey.get(value) ?? NONE;
  if (!isObject(value)) return NONE;
  const { x, y, z } = value;
  if (typeof x !== 'number' || typeof y !== 'number') return NONE;
  if (board.isHex && typeof z === 'number' && x + y + z !== 0) return NONE;
  return board.cellByLabel.get(`${x},${y}`) ?? NONE;
}

/** A list of positions in any order, as ascending cells. */
function readCells(board: Board, value: unknown): number[] {
  if (!Array.isArray(value)) return [NONE];
  return value.map((item: unknown) => readCell(board, item)).sort((a, b) => a - b);
}

/** A field of the first object of a list field, such as `formedLines[0].positions`. */
function firstItemField(move: JsonObject, list: string, field: string): unknown {
  const items = move[list];
  const first: unknown = Array.isArray(items) ? items[0] : undefined;
  return isObject(first) ? first[field] : undefined;
}

function readRecovery(board: Board, move: JsonObject): Move | null {
  const from = readCell(board, move['from']);
  const to = readCell(board, move['to']);
  const stacks = move['extractionStacks'];
  const extraction = readCell(board, Array.isArray(stacks) ? stacks[0] : undefined);
  switch (move['recoveryMode']) {
    case 'line':
      return move['recoveryOption'] === 2
        ? recoveryWindow(from, to, readCells(board, move['collapsePositions']))
        : recoverySlide(from, to, 'line_all', extraction);
    case 'fallback':
      return recoverySlide(from, to, 'fallback', extraction);
    case 'stack_strike':
      return recoverySlide(from, to, 'stack_strike', extraction);
    default:
      return null;
  }
}

function readMove(board: Board, move: JsonObject): Move | null {
  const type = move['type'];
  if (typeof type !== 'string') return null;
  const to = readCell(board, move['to']);
  switch (type as MoveType) {
    case 'place_ring': {
      const count = move['placementCount'] ?? 1;
      return placeRing(to, typeof count === 'number' ? count : 0);
    }
    case 'move_stack':
      return moveStack(readCell(board, move['from']), to);
    case 'overtaking_capture':
    case 'continue_capture_segment': {
      const target = readCell(board, move['captureTarget']);
      return capture(type as 'overtaking_capture', readCell(board, move['from']), target, to);
    }
    case 'recovery_slide':
      return readRecovery(board, move);
    case 'process_line':
      return processLine(readCells(board, firstItemField(move, 'formedLines', 'positions')));
    case 'choose_line_option': {
      const line = readCells(board, firstItemField(move, 'formedLines', 'positions'));
      return chooseLineOption(line, readCells(board, move['collapsedMarkers']));
    }
    case 'eliminate_rings_from_stack': {
      const context = move['eliminationContext'] ?? 'territory';
      if (context !== 'line' && context !== 'territory' && context !== 'recovery') return null;
      return eliminateRings(to, context);
    }
    case 'choose_territory_option':
      return chooseTerritory(readCells(board, firstItemField(move, 'disconnectedRegions', 'spaces')));
    case 'forced_elimination':
      return forcedElimination(to);
    default:
      return FIELDLESS_BY_TYPE.get(type) ?? null;
  }
}

/** The member of a legal list that a JSON move means, or null; its player must be the mover. */
export function findMoveByJson(board: Board, legal: readonly Move[], mover: number, json: JsonObject): Move | null {
  if (json['player'] !== mover) return null;
  const wanted = readMove(board, json);
  return wanted === null ? null : findMove(legal, wanted);
}
