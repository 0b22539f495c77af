/** The twelve configurations and their thresholds (RULES 1.4). */

import { getBoard } from './board.ts';
import type { Board, BoardType } from './board.ts';

export interface Game {
  readonly board: Board;
  readonly players: number;
  readonly ringsPerPlayer: number;
  /** L, the required line length (RR-CANON-R120). */
  readonly lineLength: number;
  /** D, the length from which runs are noticed at all (T5, T13). */
  readonly detectionLength: number;
  /** V, eliminated rings needed to win (RR-CANON-R061). */
  readonly ringThreshold: number;
  /** T, smallest winning territory (RR-CANON-R062). */
  readonly territoryThreshold: number;
  /** Exclusive rounds needed for a last-player-standing win (RR-CANON-R172). */
  readonly lpsRounds: number;
}

/** Rule options that change a threshold (1.4, last paragraph). */
export interface GameOptions {
  readonly ringsPerPlayer?: number;
  readonly lpsRounds?: number;
}

const RINGS_PER_PLAYER: Readonly<Record<BoardType, number>> = { square8: 18, square19: 72, hex8: 18, hexagonal: 96 };
const DETECTION_LENGTH: Readonly<Record<BoardType, number>> = { square8: 3, square19: 4, hex8: 4, hexagonal: 4 };

function requiredLineLength(type: BoardType, players: number): number {
  const isSmall = type === 'square8' || type === 'hex8';
  return isSmall && players > 2 ? 3 : 4;
}

export function createGame(type: BoardType, players: number, options: GameOptions = {}): Game {
  const board = getBoard(type);
  const ringsPerPlayer = options.ringsPerPlayer ?? RINGS_PER_PLAYER[type];
  return {
    board,
    players,
    ringsPerPlayer,
    lineLength: requiredLineLength(type, players),
    detectionLength: DETECTION_LENGTH[type],
    ringThreshold: Math.round(ringsPerPlayer * (2 / 3 + (players - 1) / 3)),
    territoryThreshold: Math.floor(board.cellCount / players) + 1,
    lpsRounds: options.lpsRounds ?? 3,
  };
}

const games = new Map<string, Game>();

/** The standard game of a configuration. */
export function standardGame(type: BoardType, players: number): Game {
  const name = `${type}/${players}`;
  let game = games.get(name);
  if (game === undefined) {
    game = createGame(type, players);
    games.set(name, game);
  }
  return game;
}
