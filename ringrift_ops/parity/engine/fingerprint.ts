/**
 * Fingerprint hash (RULES appendix B) and the order-free hash of a legal list. Characters
 * are fed to the hash one by one; the texts themselves are never built.
 */

import type { Board } from './board.ts';
import { writeMoveKey } from './movekey.ts';
import type { KeySink } from './movekey.ts';
import type { Move } from './moves.ts';
import type { State } from './state.ts';

const BAR = 124;
const COLON = 58;
const DIGIT_ZERO = 48;
const HASH_SIGN = 35;

/** The two-lane hash of appendix B. Lanes are signed 32-bit integers. */
class TwoLaneHash implements KeySink {
  h1 = 0;
  h2 = 0;

  reset(): void {
    this.h1 = 0xdeadbeef | 0;
    this.h2 = 0x41c6ce57;
  }

  code(code: number): void {
    this.h1 = Math.imul(this.h1 ^ code, 2654435761);
    this.h2 = Math.imul(this.h2 ^ code, 1597334677);
  }

  codes(codes: Uint8Array): void {
    let h1 = this.h1;
    let h2 = this.h2;
    for (let i = 0; i < codes.length; i++) {
      const code = codes[i]!;
      h1 = Math.imul(h1 ^ code, 2654435761);
      h2 = Math.imul(h2 ^ code, 1597334677);
    }
    this.h1 = h1;
    this.h2 = h2;
  }

  text(text: string): void {
    for (let i = 0; i < text.length; i++) this.code(text.charCodeAt(i));
  }

  cell(board: Board, cell: number): void {
    this.codes(board.labelCodes[cell]!);
  }

  /** A non-negative integer in decimal. */
  decimal(value: number): void {
    if (value > 9) this.decimal((value / 10) | 0);
    this.code(DIGIT_ZERO + (value % 10));
  }

  finish(): void {
    const h1 = Math.imul(this.h1 ^ (this.h1 >>> 16), 2246822507) ^ Math.imul(this.h2 ^ (this.h2 >>> 13), 3266489909);
    this.h2 = Math.imul(this.h2 ^ (this.h2 >>> 16), 2246822507) ^ Math.imul(h1 ^ (h1 >>> 13), 3266489909);
    this.h1 = h1;
  }
}

/** Output form of a pair of lanes: h2 first, 8 hex digits each. */
function hexLanes(h2: number, h1: number): string {
  return (h2 >>> 0).toString(16).padStart(8, '0') + (h1 >>> 0).toString(16).padStart(8, '0');
}

const hash = new TwoLaneHash();

export function hashText(text: string): string {
  hash.reset();
  hash.text(text);
  hash.finish();
  return hexLanes(hash.h2, hash.h1);
}

/** `eh`: META#PLAYERS#STACKS#MARKERS#COLLAPSED. */
export function fingerprintHash(state: State): string {
  const { board } = state.game;
  hash.reset();
  feedMeta(state);
  hash.code(HASH_SIGN);
  feedPlayers(state);
  hash.code(HASH_SIGN);
  feedStacks(state);
  hash.code(HASH_SIGN);
  feedOwners(board, state.marker);
  hash.code(HASH_SIGN);
  feedOwners(board, state.collapsed);
  hash.finish();
  return hexLanes(hash.h2, hash.h1);
}

function feedMeta(state: State): void {
  if (state.over) {
    hash.text('0:game_over:completed:0');
    return;
  }
  hash.decimal(state.player);
  hash.code(COLON);
  hash.text(state.phase);
  hash.text(state.lineDebt ? ':active:1' : ':active:0');
}

function feedPlayers(state: State): void {
  for (let seat = 1; seat <= state.game.players; seat++) {
    if (seat > 1) hash.code(BAR);
    hash.decimal(seat);
    hash.code(COLON);
    hash.decimal(state.hand[seat]!);
    hash.code(COLON);
    hash.decimal(state.eliminated[seat]!);
    hash.code(COLON);
    hash.decimal(state.territory[seat]!);
  }
}

function feedStacks(state: State): void {
  const { fingerprintOrder, keyCodes } = state.game.board;
  let first = true;
  for (let i = 0; i < fingerprintOrder.length; i++) {
    const cell = fingerprintOrder[i]!;
    const height = state.height[cell]!;
    if (height === 0) continue;
    if (!first) hash.code(BAR);
    first = false;
    hash.codes(keyCodes[cell]!);
    hash.code(COLON);
    hash.decimal(state.controller[cell]!);
    hash.code(COLON);
    hash.decimal(height);
    hash.code(COLON);
    hash.decimal(state.cap[cell]!);
  }
}

function feedOwners(board: Board, owners: Uint8Array): void {
  const { fingerprintOrder, keyCodes } = board;
  let first = true;
  for (let i = 0; i < fingerprintOrder.length; i++) {
    const cell = fingerprintOrder[i]!;
    const owner = owners[cell]!;
    if (owner === 0) continue;
    if (!first) hash.code(BAR);
    first = false;
    hash.codes(keyCodes[cell]!);
    hash.code(COLON);
    hash.decimal(owner);
  }
}

/**
 * Hash of a legal list that does not depend on its order: the hashes of the expanded move
 * keys, added lane by lane modulo 2^32.
 */
export function legalListHash(board: Board, moves: readonly Move[]): string {
  let sum1 = 0;
  let sum2 = 0;
  for (let i = 0; i < moves.length; i++) {
    hash.reset();
    writeMoveKey(hash, board, moves[i]!);
    hash.finish();
    sum1 = (sum1 + hash.h1) | 0;
    sum2 = (sum2 + hash.h2) | 0;
  }
  return hexLanes(sum2, sum1);
}
