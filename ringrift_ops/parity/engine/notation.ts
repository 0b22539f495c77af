/** State strings (conformance format, RULES appendix A). */

import { NONE } from './board.ts';
import type { Board } from './board.ts';
import type { Game } from './game.ts';
import { State, UNSEEN } from './state.ts';
import type { Phase } from './state.ts';

/** A request or file that cannot be understood. */
export class FormatError extends Error {}

const PHASE_CODES: Readonly<Record<Phase, string>> = {
  ring_placement: 'RP',
  movement: 'MV',
  capture: 'CA',
  chain_capture: 'CC',
  line_processing: 'LP',
  territory_processing: 'TP',
  forced_elimination: 'FE',
  game_over: 'GO',
};

const PHASES_BY_CODE = new Map(Object.entries(PHASE_CODES).map(([phase, code]) => [code, phase as Phase]));

export function phaseCode(state: State): string {
  return PHASE_CODES[state.phase];
}

/** Seat to move, 0 once the game is over. */
export function seatToMove(state: State): number {
  return state.over ? 0 : state.player;
}

// ---- writing ----

function writeSeats(state: State, values: Int32Array): string {
  return values.subarray(1, state.game.players + 1).join('/');
}

function writeCell(board: Board, cell: number): string {
  return cell === NONE ? '-' : board.labels[cell]!;
}

function writeDebt(state: State): string {
  if (state.lineDebt) return 'L';
  if (state.regionDebt) return state.recovered ? 'R' : 'T';
  return '-';
}

function writeTurnMemory(state: State): string {
  if (!state.acted) return '-';
  return state.recovered ? 'ar' : 'a';
}

function writeLps(state: State): string {
  const { leader, seen, rounds, exclusive } = state.lps;
  const marks = Array.from(seen.subarray(1), (mark) => (mark === UNSEEN ? '-' : String(mark)));
  return `${leader}/${marks.join('')}/${rounds}/${exclusive}`;
}

function writeSwap(state: State): string {
  if (!state.swapRule || state.game.players !== 2) return '-';
  return (state.swapped ? '21' : '12') + (state.swapAvailable() ? '+' : '');
}

function writeOwners(board: Board, owners: Uint8Array): string {
  const entries: string[] = [];
  owners.forEach((owner, cell) => {
    if (owner !== 0) entries.push(`${board.labels[cell]}:${owner}`);
  });
  return entries.join(' ');
}

function writeStacks(state: State): string {
  const entries: string[] = [];
  state.rings.forEach((rings, cell) => {
    if (rings.length > 0) entries.push(`${state.game.board.labels[cell]}:${rings.join('')}`);
  });
  return entries.join(' ');
}

export function formatState(state: State): string {
  const { board } = state.game;
  const over = state.over;
  const capturing = state.phase === 'capture' || state.phase === 'chain_capture';
  return [
    `p${seatToMove(state)}`,
    phaseCode(state),
    over ? `C${state.winner}` : 'A',
    `m${over ? '-' : writeCell(board, state.mustMoveFrom)}`,
    `c${capturing ? writeCell(board, state.attacker) : '-'}`,
    `e${over ? '-' : writeDebt(state)}`,
    `t${over ? '-' : writeTurnMemory(state)}`,
    `h${writeSeats(state, state.hand)}`,
    `x${writeSeats(state, state.eliminated)}`,
    `g${writeSeats(state, state.territory)}`,
    `l${over ? '-' : writeLps(state)}`,
    `y${writeSwap(state)}`,
    `s${writeStacks(state)}`,
    `k${writeOwners(board, state.marker)}`,
    `z${writeOwners(board, state.collapsed)}`,
  ].join(';');
}

// ---- reading ----

const FIELD_LETTERS = ['p', '', '', 'm', 'c', 'e', 't', 'h', 'x', 'g', 'l', 'y', 's', 'k', 'z'];

function splitFields(text: string): string[] {
  const fields = text.split(';');
  if (fields.length !== FIELD_LETTERS.length) throw new FormatError(`state string: ${fields.length} fields, not 15`);
  return fields.map((field, index) => {
    const letter = FIELD_LETTERS[index]!;
    if (!field.startsWith(letter)) throw new FormatError(`state string: field ${index + 1} must start with '${letter}'`);
    return field.slice(letter.length);
  });
}

function readNumber(text: string | undefined, what: string, low: number, high: number): number {
  const value = text !== undefined && /^\d+$/.test(text) ? Number(text) : -1;
  if (value < low || value > high) throw new FormatError(`state string: bad ${what} '${text}'`);
  return value;
}

function readCell(board: Board, text: string): number {
  if (text === '-') return NONE;
  const cell = board.cellByLabel.get(text);
  if (cell === undefined) throw new FormatError(`state string: no cell '${text}'`);
  return cell;
}

function readSeats(game: Game, text: string, target: Int32Array, what: string): void {
  const parts = text.split('/');
  if (parts.length !== game.players) throw new FormatError(`state string: ${what} for ${parts.length} seats`);
  parts.forEach((part, index) => {
    target[index + 1] = readNumber(part, what, 0, 1_000_000);
  });
}

function readEntries(game: Game, text: string, what: string, use: (cell: number, value: string) => void): void {
  if (text === '') return;
  for (const entry of text.split(' ')) {
    const [label, value] = entry.split(':');
    if (label === undefined || value === undefined) throw new FormatError(`state string: bad ${what} '${entry}'`);
    const cell = readCell(game.board, label);
    if (cell === NONE) throw new FormatError(`state string: bad ${what} '${entry}'`);
    use(cell, value);
  }
}

function readLps(state: State, text: string): void {
  if (text === '-') return;
  const { players } = state.game;
  const [leader, marks, rounds, exclusive] = text.split('/');
  if (marks === undefined || marks.length !== players || !/^[01-]*$/.test(marks)) {
    throw new FormatError(`state string: bad tracker '${text}'`);
  }
  state.lps.leader = readNumber(leader, 'round leader', 0, players);
  state.lps.rounds = readNumber(rounds, 'round count', 0, 1_000_000);
  state.lps.exclusive = readNumber(exclusive, 'exclusive seat', 0, players);
  for (let seat = 1; seat <= players; seat++) {
    const mark = marks[seat - 1]!;
    state.lps.seen[seat] = mark === '-' ? UNSEEN : Number(mark);
  }
}

/**
 * The pie rule. Whether seat 2 has moved is shown by the offer itself, or, before seat 2's
 * first turn, by a tracker that has seen no turn start yet.
 */
function readSwap(state: State, text: string): void {
  if (!/^(-|(12|21)\+?)$/.test(text)) throw new FormatError(`state string: bad pie rule field '${text}'`);
  state.swapRule = text !== '-';
  state.swapped = text.startsWith('21');
  const beforeSeatTwo = state.player === 1 && state.lps.leader === 0;
  state.seatTwoHasMoved = !text.endsWith('+') && !beforeSeatTwo;
}

function readStatus(state: State, text: string): void {
  if (text === 'A') return;
  if (!text.startsWith('C')) throw new FormatError(`state string: bad status '${text}'`);
  state.over = true;
  state.winner = readNumber(text.slice(1), 'winner', 0, state.game.players);
}

export function parseState(game: Game, text: string): State {
  const fields = splitFields(text);
  const field = (index: number): string => fields[index - 1]!;
  const state = new State(game);

  readStatus(state, field(3));
  state.player = readNumber(field(1), 'seat', state.over ? 0 : 1, game.players);
  const phase = PHASES_BY_CODE.get(field(2));
  if (phase === undefined || (phase === 'game_over') !== state.over) {
    throw new FormatError(`state string: bad phase '${field(2)}'`);
  }
  state.phase = phase;
  state.mustMoveFrom = readCell(game.board, field(4));
  state.attacker = readCell(game.board, field(5));
  if ((phase === 'capture' || phase === 'chain_capture') !== (state.attacker !== NONE)) {
    throw new FormatError('state string: the capturing stack does not fit the phase');
  }
  const debt = field(6);
  if (!['-', 'L', 'T', 'R'].includes(debt)) throw new FormatError(`state string: bad debt '${debt}'`);
  state.lineDebt = debt === 'L';
  state.regionDebt = debt === 'T' || debt === 'R';
  const memory = field(7);
  if (!/^(-|ar?)$/.test(memory)) throw new FormatError(`state string: bad turn memory '${memory}'`);
  state.acted = memory !== '-';
  state.recovered = memory === 'ar';
  // In mid-turn the previous step was the same seat's.
  if (state.acted || phase !== 'ring_placement') state.lastActor = state.player;

  readSeats(game, field(8), state.hand, 'hands');
  readSeats(game, field(9), state.eliminated, 'eliminated rings');
  readSeats(game, field(10), state.territory, 'territory');
  readLps(state, field(11));
  readSwap(state, field(12));
  readEntries(game, field(13), 'stack', (cell, value) => {
    state.setStack(cell, Array.from(value, (digit) => readNumber(digit, 'ring', 1, game.players)));
  });
  readEntries(game, field(14), 'marker', (cell, value) => {
    state.setMarker(cell, readNumber(value, 'marker', 1, game.players));
  });
  readEntries(game, field(15), 'collapsed cell', (cell, value) => {
    state.markCollapsed(cell, readNumber(value, 'collapsed cell', 1, game.players));
  });
  return state;
}

/** The state before the first move. */
export function initialState(game: Game, swapRule: boolean): State {
  const state = new State(game);
  state.swapRule = swapRule && game.players === 2;
  return state;
}
