/** Replaying a list of moves and reporting every step. */

import { fingerprintHash, legalListHash } from './fingerprint.ts';
import { findMoveByJson } from './movejson.ts';
import type { JsonObject } from './movejson.ts';
import { findMoveByKey, legalListText, moveKey } from './movekey.ts';
import type { Move } from './moves.ts';
import { formatState, phaseCode, seatToMove } from './notation.ts';
import type { State } from './state.ts';
import { applyMove, legalMoves } from './turn.ts';
import { evaluateVictory, standings } from './victory.ts';

/** A move to replay: a move key or a RingRift JSON move. */
export type GivenMove = string | JsonObject;

export interface FullStep {
  readonly p: number;
  readonly ph: string;
  readonly m: string;
  readonly l: string;
  readonly s: string;
  readonly eh: string;
  readonly ev: string | null;
}

export type HashStep = readonly [
  n: number, lh: string, phase: string, player: number, phaseAfter: string, playerAfter: number, eh: string,
];

export interface GameResult {
  readonly winner: number;
  readonly reason: string;
  readonly by: string;
  readonly kind: string;
  readonly standings: number[];
  readonly markers: number[];
  readonly handCountsAsEliminated: boolean;
  readonly early: readonly [step: number, what: string] | null;
}

/** The first given move that is not in the legal list. */
export interface IllegalMove {
  readonly index: number;
  readonly move: GivenMove;
  readonly player: number;
  readonly phase: string;
  readonly legalCount: number;
}

export interface Replay<Step, Final> {
  readonly steps: Step[];
  readonly result: GameResult | null;
  readonly final: Final;
  readonly illegal?: IllegalMove;
}

/** The legal move that is meant, or null. */
export function resolveMove(state: State, legal: readonly Move[], given: GivenMove): Move | null {
  const { board } = state.game;
  return typeof given === 'string'
    ? findMoveByKey(board, legal, given)
    : findMoveByJson(board, legal, seatToMove(state), given);
}

function describeResult(state: State, early: GameResult['early']): GameResult | null {
  if (state.victory === null) return null;
  return {
    winner: state.winner,
    reason: state.victory.reason,
    by: state.victoryBy,
    kind: state.victory.kind,
    standings: standings(state),
    markers: Array.from(state.markersOf.subarray(1)),
    handCountsAsEliminated: state.victory.handCountsAsEliminated,
    early,
  };
}

/** `ev`: the victory that the stateless test finds although the game goes on (T33). */
function earlyVictory(state: State): string | null {
  if (state.over) return null;
  const victory = evaluateVictory(state);
  return victory === null ? null : `${victory.winner}:${victory.reason}`;
}

/**
 * Plays the moves on `state`. `describe` is called before every move and returns what
 * makes the step's description after it.
 */
function playAll<Step, Final>(
  state: State, moves: readonly GivenMove[],
  describe: (legal: Move[], move: Move) => (early: string | null) => Step,
  describeFinal: (legal: Move[]) => Final,
): Replay<Step, Final> {
  const steps: Step[] = [];
  let early: GameResult['early'] = null;
  for (let index = 0; index < moves.length; index++) {
    const given = moves[index]!;
    const legal = legalMoves(state);
    const move = resolveMove(state, legal, given);
    if (move === null) {
      const illegal = {
        index, move: given, player: seatToMove(state), phase: phaseCode(state), legalCount: legal.length,
      };
      return { steps, result: describeResult(state, early), final: describeFinal(legal), illegal };
    }
    const finishStep = describe(legal, move);
    applyMove(state, move);
    const found = earlyVictory(state);
    if (found !== null) early ??= [index, found];
    steps.push(finishStep(found));
  }
  return { steps, result: describeResult(state, early), final: describeFinal(legalMoves(state)) };
}

/** Every step in full: legal list, state string, fingerprint hash. */
export function replayInFull(state: State, moves: readonly GivenMove[]): Replay<FullStep, { l: string }> {
  const { board } = state.game;
  return playAll(
    state,
    moves,
    (legal, move) => {
      const before = {
        p: seatToMove(state), ph: phaseCode(state), m: moveKey(board, move), l: legalListText(board, legal),
      };
      return (ev) => ({ ...before, s: formatState(state), eh: fingerprintHash(state), ev });
    },
    (legal) => ({ l: legalListText(board, legal) }),
  );
}

/** Every step as hashes. */
export function replayAsHashes(state: State, moves: readonly GivenMove[]): Replay<HashStep, [n: number, lh: string]> {
  const { board } = state.game;
  return playAll<HashStep, [number, string]>(
    state,
    moves,
    (legal) => {
      const count = legal.length;
      const listHash = legalListHash(board, legal);
      const phase = phaseCode(state);
      const player = seatToMove(state);
      return () => [count, listHash, phase, player, phaseCode(state), seatToMove(state), fingerprintHash(state)];
    },
    (legal) => [legal.length, legalListHash(board, legal)],
  );
}
