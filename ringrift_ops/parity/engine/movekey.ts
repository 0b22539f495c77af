/**
 * Move keys (RULES appendix A). A territory choice has two forms: the short `Tc:n:h8` of
 * the traces and the expanded `T` + all region cells.
 */

import { createHash } from 'node:crypto';

import { NONE } from './board.ts';
import type { Board } from './board.ts';
import {
  FIELDLESS_MOVES, capture, chooseLineOption, chooseTerritory, eliminateRings, forcedElimination, moveStack,
  placeRing, processLine, recoverySlide, recoveryWindow, sameMove,
} from './moves.ts';
import type { EliminationContext, Move, MoveType } from './moves.ts';

/** Receives the pieces of a key, in order. */
export interface KeySink {
  text(text: string): void;
  cell(board: Board, cell: number): void;
  decimal(value: number): void;
}

const FIELDLESS_BY_KEY = new Map(FIELDLESS_MOVES);
const FIELDLESS_KEYS = new Map<MoveType, string>(FIELDLESS_MOVES.map(([key, move]) => [move.type, key]));

function writeCells(sink: KeySink, board: Board, cells: readonly number[]): void {
  for (let i = 0; i < cells.length; i++) {
    if (i > 0) sink.text('/');
    sink.cell(board, cells[i]!);
  }
}

/** Writes the expanded key of a move. */
export function writeMoveKey(sink: KeySink, board: Board, move: Move): void {
  switch (move.type) {
    case 'place_ring':
      sink.text('P');
      sink.cell(board, move.to);
      sink.text('*');
      sink.decimal(move.count);
      return;
    case 'move_stack':
      sink.text('M');
      sink.cell(board, move.from);
      sink.text('>');
      sink.cell(board, move.to);
      return;
    case 'overtaking_capture':
    case 'continue_capture_segment':
      sink.text(move.type === 'overtaking_capture' ? 'C' : 'K');
      sink.cell(board, move.from);
      sink.text('>');
      sink.cell(board, move.via);
      sink.text('>');
      sink.cell(board, move.to);
      return;
    case 'recovery_slide':
      writeRecoveryKey(sink, board, move);
      return;
    case 'process_line':
      sink.text('L');
      writeCells(sink, board, move.cells);
      return;
    case 'choose_line_option':
      sink.text('O');
      writeCells(sink, board, move.cells);
      sink.text('=');
      writeCells(sink, board, move.chosen);
      return;
    case 'eliminate_rings_from_stack':
      sink.text('E');
      sink.cell(board, move.to);
      sink.text(move.variant === 'line' ? ':l' : move.variant === 'territory' ? ':t' : ':r');
      return;
    case 'choose_territory_option':
      sink.text('T');
      writeCells(sink, board, move.cells);
      return;
    case 'forced_elimination':
      sink.text('X');
      sink.cell(board, move.to);
      return;
    default:
      sink.text(FIELDLESS_KEYS.get(move.type)!);
  }
}

function writeRecoveryKey(sink: KeySink, board: Board, move: Move): void {
  sink.text('R');
  sink.cell(board, move.from);
  sink.text('>');
  sink.cell(board, move.to);
  switch (move.variant) {
    case 'line_window':
      sink.text(':2:');
      writeCells(sink, board, move.chosen);
      return;
    case 'line_all':
      sink.text(':1:');
      break;
    case 'fallback':
      sink.text(':F:');
      break;
    default:
      sink.text(':S:');
  }
  sink.cell(board, move.via);
}

class TextSink implements KeySink {
  value = '';

  text(text: string): void {
    this.value += text;
  }

  cell(board: Board, cell: number): void {
    this.value += board.labels[cell];
  }

  decimal(value: number): void {
    this.value += String(value);
  }
}

/** Key with every cell of a region spelt out. */
export function expandedMoveKey(board: Board, move: Move): string {
  const sink = new TextSink();
  writeMoveKey(sink, board, move);
  return sink.value;
}

/** Key as it stands in the traces. */
export function moveKey(board: Board, move: Move): string {
  const expanded = expandedMoveKey(board, move);
  if (move.type !== 'choose_territory_option') return expanded;
  const digest = createHash('sha256').update(expanded.slice(1)).digest('hex').slice(0, 8);
  return `T${board.labels[move.cells[0]!]}:${move.cells.length}:${digest}`;
}

// ---- reading keys ----

function cellOf(board: Board, label: string | undefined): number {
  return label === undefined ? NONE : board.cellByLabel.get(label) ?? NONE;
}

function cellsOf(board: Board, text: string | undefined): number[] {
  return text === undefined ? [NONE] : text.split('/').map((label) => cellOf(board, label));
}

const ELIMINATION_CONTEXTS: Readonly<Record<string, EliminationContext>> = { l: 'line', t: 'territory', r: 'recovery' };

/**
 * The move that an (expanded) key means, or null if it is no key at all. Unknown cells
 * become NONE, so that the move is in no legal list.
 */
function parseMoveKey(board: Board, key: string): Move | null {
  const fieldless = FIELDLESS_BY_KEY.get(key);
  if (fieldless !== undefined) return fieldless;
  const body = key.slice(1);
  switch (key[0]) {
    case 'P': {
      const [cell, count] = body.split('*');
      return placeRing(cellOf(board, cell), count === '1' || count === '2' || count === '3' ? Number(count) : 0);
    }
    case 'M': {
      const [from, to] = body.split('>');
      return moveStack(cellOf(board, from), cellOf(board, to));
    }
    case 'C':
    case 'K': {
      const [from, target, to] = body.split('>').map((label) => cellOf(board, label));
      const type = key[0] === 'C' ? 'overtaking_capture' : 'continue_capture_segment';
      return capture(type, from ?? NONE, target ?? NONE, to ?? NONE);
    }
    case 'R':
      return parseRecoveryKey(board, body);
    case 'L':
      return processLine(cellsOf(board, body));
    case 'O': {
      const [line, chosen] = body.split('=');
      return chooseLineOption(cellsOf(board, line), cellsOf(board, chosen));
    }
    case 'E': {
      const [cell, letter] = body.split(':');
      const context = ELIMINATION_CONTEXTS[letter ?? ''];
      return context === undefined ? null : eliminateRings(cellOf(board, cell), context);
    }
    case 'T':
      return chooseTerritory(cellsOf(board, body));
    case 'X':
      return forcedElimination(cellOf(board, body));
    default:
      return null;
  }
}

function parseRecoveryKey(board: Board, body: string): Move | null {
  const [slide, kind, rest] = body.split(':');
  const [from, to] = (slide ?? '').split('>').map((label) => cellOf(board, label));
  if (from === undefined || to === undefined) return null;
  switch (kind) {
    case '1': return recoverySlide(from, to, 'line_all', cellOf(board, rest));
    case '2': return recoveryWindow(from, to, cellsOf(board, rest));
    case 'F': return recoverySlide(from, to, 'fallback', cellOf(board, rest));
    case 'S': return recoverySlide(from, to, 'stack_strike', cellOf(board, rest));
    default: return null;
  }
}

/** The member of a legal list that equals a move. */
export function findMove(legal: readonly Move[], wanted: Move): Move | null {
  for (let i = 0; i < legal.length; i++) if (sameMove(legal[i]!, wanted)) return legal[i]!;
  return null;
}

/** The member of a legal list that a key (either form) names, or null. */
export function findMoveByKey(board: Board, legal: readonly Move[], key: string): Move | null {
  if (key.startsWith('T') && key.includes(':')) {
    return legal.find((move) => move.type === 'choose_territory_option' && moveKey(board, move) === key) ?? null;
  }
  const wanted = parseMoveKey(board, key);
  const found = wanted === null ? null : findMove(legal, wanted);
  // Reading is lenient; only the exact key names the move.
  return found !== null && expandedMoveKey(board, found) === key ? found : null;
}

/** The legal list as the traces write it: keys sorted by code unit, joined by spaces. */
export function legalListText(board: Board, legal: readonly Move[]): string {
  return legal.map((move) => moveKey(board, move)).sort().join(' ');
}
