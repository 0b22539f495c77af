/**
 * Compares the engine with recorded games and positions:
 *
 *     node conform.ts [--limit N] FILE.jsonl[.gz] ...
 *
 * Prints per file the games (or positions), the steps, the number of differences and the
 * first difference in full. Exits with 1 if there is any difference.
 */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { gunzipSync } from 'node:zlib';

import type { BoardType } from './board.ts';
import { standardGame } from './game.ts';
import { findMoveByKey, legalListText } from './movekey.ts';
import { formatState, parseState } from './notation.ts';
import { replayInFull } from './record.ts';
import { applyMove, legalMoves } from './turn.ts';

interface TraceStep {
  readonly i: number;
  readonly p: number;
  readonly ph: string;
  readonly m: string;
  readonly l?: string;
  readonly n?: number;
  readonly lh?: string;
  readonly s?: string;
  readonly sh?: string;
  readonly eh?: string;
  readonly ev?: string;
}

interface TraceGame {
  readonly id: string;
  readonly board: BoardType;
  readonly players: number;
  readonly init: string;
  readonly swapRule: boolean;
  readonly thresholds: { readonly rings: number; readonly territory: number; readonly lpsRounds: number; readonly line: number };
  readonly result: unknown;
  readonly trace: readonly TraceStep[];
}

interface PositionCase {
  readonly board: BoardType;
  readonly players: number;
  readonly s: string;
  readonly l: string;
  readonly after: ReadonlyArray<readonly [move: string, state: string]>;
}

/** Counts comparisons and keeps the first that failed. */
class Tally {
  cases = 0;
  steps = 0;
  differences = 0;
  first: string | null = null;

  compare(where: string, what: string, expected: unknown, actual: unknown): void {
    if (isDeepStrictEqual(expected, actual)) return;
    this.differences++;
    this.first ??= `${where}: ${what}\n  recorded ${JSON.stringify(expected)}\n  engine   ${JSON.stringify(actual)}`;
  }
}

function shortSha(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

function checkGame(recorded: TraceGame, tally: Tally): void {
  const game = standardGame(recorded.board, recorded.players);
  const { ringThreshold, territoryThreshold, lpsRounds, lineLength } = game;
  const thresholds = { rings: ringThreshold, territory: territoryThreshold, lpsRounds, line: lineLength };
  tally.compare(recorded.id, 'thresholds', recorded.thresholds, thresholds);
  const state = parseState(game, recorded.init);
  tally.compare(recorded.id, 'init', recorded.init, formatState(state));

  const replay = replayInFull(state, recorded.trace.map((step) => step.m));
  recorded.trace.forEach((expected, index) => {
    const where = `${recorded.id} step ${index} ${expected.m}`;
    const actual = replay.steps[index];
    tally.steps++;
    if (actual === undefined) {
      tally.compare(where, 'not legal', expected, replay.illegal);
      return;
    }
    tally.compare(where, 'p', expected.p, actual.p);
    tally.compare(where, 'ph', expected.ph, actual.ph);
    tally.compare(where, 'm', expected.m, actual.m);
    if (expected.l !== undefined) tally.compare(where, 'l', expected.l, actual.l);
    if (expected.n !== undefined) tally.compare(where, 'n', expected.n, actual.l.split(' ').length);
    if (expected.lh !== undefined) tally.compare(where, 'lh', expected.lh, shortSha(actual.l));
    if (expected.s !== undefined) tally.compare(where, 's', expected.s, actual.s);
    if (expected.sh !== undefined) tally.compare(where, 'sh', expected.sh, shortSha(actual.s));
    if (expected.eh !== undefined) tally.compare(where, 'eh', expected.eh, actual.eh);
    tally.compare(where, 'ev', expected.ev ?? null, actual.ev);
  });
  tally.compare(recorded.id, 'result', recorded.result, replay.result);
  tally.compare(recorded.id, 'final list', '', replay.final.l);
}

function checkPosition(recorded: PositionCase, line: number, tally: Tally): void {
  const game = standardGame(recorded.board, recorded.players);
  const where = `position ${line} ${recorded.s}`;
  const state = parseState(game, recorded.s);
  tally.compare(where, 'state string', recorded.s, formatState(state));
  const legal = legalMoves(state);
  tally.compare(where, 'l', recorded.l, legalListText(game.board, legal));
  for (const [key, expected] of recorded.after) {
    tally.steps++;
    const move = findMoveByKey(game.board, legal, key);
    if (move === null) {
      tally.compare(where, `after ${key}`, expected, null);
      continue;
    }
    const next = state.clone();
    applyMove(next, move);
    tally.compare(where, `after ${key}`, expected, formatState(next));
  }
}

function checkFile(file: string, limit: number): Tally {
  const bytes = readFileSync(file);
  const text = (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8');
  const tally = new Tally();
  for (const line of text.split('\n')) {
    if (line === '' || tally.cases >= limit) continue;
    tally.cases++;
    const recorded = JSON.parse(line) as TraceGame | PositionCase;
    if ('trace' in recorded) checkGame(recorded, tally);
    else checkPosition(recorded, tally.cases, tally);
  }
  return tally;
}

function main(args: string[]): void {
  let limit = Infinity;
  const files = args.slice();
  if (files[0] === '--limit') limit = Number(files.splice(0, 2)[1]);
  let cases = 0;
  let differences = 0;
  for (const file of files) {
    const tally = checkFile(file, limit);
    cases += tally.cases;
    differences += tally.differences;
    const name = file.slice(file.lastIndexOf('/') + 1);
    console.log(`${name}: ${tally.cases} cases, ${tally.steps} steps, ${tally.differences} differences`);
    if (tally.first !== null) console.log(tally.first);
  }
  console.log(`total: ${files.length} files, ${cases} cases, ${differences} differences`);
  if (differences > 0) process.exitCode = 1;
}

main(process.argv.slice(2));
