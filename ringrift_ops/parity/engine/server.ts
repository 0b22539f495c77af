/**
 * JSON-lines server: one request per line on stdin, exactly one answer per line on stdout.
 * Ops: `hello`, `replay`, `position`.
 */

import { BOARD_TYPES } from './board.ts';
import type { BoardType } from './board.ts';
import { standardGame } from './game.ts';
import type { Game } from './game.ts';
import { isObject } from './movejson.ts';
import type { JsonObject } from './movejson.ts';
import { legalListText, moveKey } from './movekey.ts';
import { FormatError, formatState, initialState, parseState } from './notation.ts';
import { replayAsHashes, replayInFull, resolveMove } from './record.ts';
import type { GivenMove } from './record.ts';
import { applyMove, legalMoves } from './turn.ts';

const RULES_VERSION = '1';

class RequestError extends Error {
  readonly kind: string;

  constructor(kind: string, message: string) {
    super(message);
    this.kind = kind;
  }
}

function readGame(request: JsonObject): Game {
  const type = BOARD_TYPES.find((name) => name === request['board']) as BoardType | undefined;
  if (type === undefined) throw new RequestError('bad_request', `board must be one of ${BOARD_TYPES.join(', ')}`);
  const players = request['players'];
  if (players !== 2 && players !== 3 && players !== 4) throw new RequestError('bad_request', 'players must be 2, 3 or 4');
  return standardGame(type, players);
}

function readMoves(request: JsonObject): GivenMove[] {
  const moves = request['moves'];
  if (!Array.isArray(moves)) throw new RequestError('bad_request', 'moves must be a list');
  return moves.map((move: unknown, index) => {
    if (typeof move !== 'string' && !isObject(move)) {
      throw new RequestError('bad_request', `move ${index} is neither a key nor an object`);
    }
    return move;
  });
}

function replay(request: JsonObject): JsonObject {
  const game = readGame(request);
  const moves = readMoves(request);
  const { swapRule = false, init = null, detail = 'full' } = request;
  if (typeof swapRule !== 'boolean') throw new RequestError('bad_request', 'swapRule must be a boolean');
  if (init !== null && typeof init !== 'string') throw new RequestError('bad_request', 'init must be a string or null');
  const state = init === null ? initialState(game, swapRule) : parseState(game, init);
  switch (detail) {
    case 'full': return { ...replayInFull(state, moves) };
    case 'hash': return { ...replayAsHashes(state, moves) };
    default: throw new RequestError('bad_request', "detail must be 'full' or 'hash'");
  }
}

function position(request: JsonObject): JsonObject {
  const game = readGame(request);
  const moves = readMoves(request);
  const text = request['s'];
  if (typeof text !== 'string') throw new RequestError('bad_request', 's must be a state string');
  const state = parseState(game, text);
  const legal = legalMoves(state);
  const after = moves.map((given, index) => {
    const move = resolveMove(state, legal, given);
    if (move === null) throw new RequestError('illegal_move', `move ${index} is not legal: ${JSON.stringify(given)}`);
    const next = state.clone();
    applyMove(next, move);
    return [typeof given === 'string' ? given : moveKey(game.board, move), formatState(next)];
  });
  return { l: legalListText(game.board, legal), after };
}

function answerTo(request: JsonObject): JsonObject {
  switch (request['op']) {
    case 'hello': return { engine: 'typescript', rules: RULES_VERSION, node: process.version };
    case 'replay': return replay(request);
    case 'position': return position(request);
    default: throw new RequestError('unknown_op', `unknown op ${JSON.stringify(request['op'])}`);
  }
}

function describeError(error: unknown): { kind: string; message: string } {
  if (error instanceof RequestError) return { kind: error.kind, message: error.message };
  if (error instanceof FormatError) return { kind: 'bad_state', message: error.message };
  return { kind: 'internal', message: error instanceof Error ? error.message : String(error) };
}

function parseRequest(line: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new RequestError('bad_json', error instanceof Error ? error.message : String(error));
  }
  if (!isObject(value)) throw new RequestError('bad_request', 'a request must be an object');
  return value;
}

/** The answer to one request line, as one line without its line break. */
export function handleLine(line: string): string {
  let id: unknown = null;
  try {
    const request = parseRequest(line);
    id = request['id'] ?? null;
    return JSON.stringify({ id, ...answerTo(request) });
  } catch (error) {
    return JSON.stringify({ id, error: describeError(error) });
  }
}

function serve(): void {
  let pending: string[] = [];
  const answer = (line: string): void => {
    if (line.trim() !== '') process.stdout.write(`${handleLine(line)}\n`);
  };
  process.stdin.setEncoding('utf8');
  process.stdin.on('data', (chunk: string) => {
    const lines = chunk.split('\n');
    if (lines.length > 1) {
      lines[0] = pending.join('') + lines[0]!;
      pending = [];
    }
    const rest = lines.pop()!;
    lines.forEach(answer);
    if (rest !== '') pending.push(rest);
  });
  process.stdin.on('end', () => answer(pending.join('')));
  // The reader has gone: there is nobody left to answer.
  process.stdout.on('error', () => process.exit(0));
}

if (import.meta.main) serve();
