/**
 * Game state (RULES 2). Rings, markers and collapsed cells live in per-cell arrays; the
 * counters beside them are kept up to date by the three mutators at the end of the class,
 * which are the only code that writes to the board.
 *
 * Arrays indexed by seat use the seats 1..n; index 0 is unused.
 */

import { NONE } from './board.ts';
import type { Game } from './game.ts';

export type Phase =
  | 'ring_placement' | 'movement' | 'capture' | 'chain_capture'
  | 'line_processing' | 'territory_processing' | 'forced_elimination' | 'game_over';

export type VictoryReason =
  | 'ring_elimination' | 'territory_control' | 'last_player_standing' | 'tiebreaker_by_player_number';

export type VictoryKind =
  | 'ring_threshold' | 'territory_threshold' | 'lps_sole_material' | 'lps_rounds'
  | 'stalemate_territory' | 'stalemate_elim' | 'stalemate_markers_or_lastactor';

export interface Victory {
  readonly winner: number;
  readonly reason: VictoryReason;
  readonly kind: VictoryKind;
  /** Bare-board stalemate in which rings in hand were compared as eliminated rings (5.2 no. 5). */
  readonly handCountsAsEliminated: boolean;
}

/** Values of `LpsTracker.seen`. */
export const UNSEEN = -1;

/** Host bookkeeping of the last-player-standing rounds (5.4). */
export interface LpsTracker {
  /** Seat that leads the round, 0 = none. */
  leader: number;
  /** Per seat: 1 had a real action at its turn start in this round, 0 had none, UNSEEN. */
  readonly seen: Int8Array;
  /** Consecutive rounds in which only `exclusive` had a real action. */
  rounds: number;
  /** The exclusive seat, 0 = none. */
  exclusive: number;
}

export class State {
  readonly game: Game;

  phase: Phase = 'ring_placement';
  /** Seat to move. */
  player = 1;
  /** `gameStatus` is completed. This, not the phase, is the terminal test (H8, T1). */
  over = false;
  winner = 0;
  /** How the game was won; null while active (or when read from a finished state string). */
  victory: Victory | null = null;
  victoryBy: 'turn' | 'lps' = 'turn';

  /** Rings of each stack, bottom first; an empty list where there is no stack. */
  readonly rings: number[][];
  readonly height: Int32Array;
  readonly cap: Int32Array;
  /** Owner of the top ring, 0 = no stack. */
  readonly controller: Uint8Array;
  /** Owner of the marker, 0 = none. */
  readonly marker: Uint8Array;
  /** Owner of the collapsed cell, 0 = not collapsed. */
  readonly collapsed: Uint8Array;
  /** 1 where the cell holds a stack or is collapsed, i.e. is not `free` (2.4). */
  readonly blocked: Uint8Array;

  readonly hand: Int32Array;
  readonly eliminated: Int32Array;
  readonly territory: Int32Array;

  /** Derived: rings of a seat on the board at any depth. */
  readonly ringsOnBoard: Int32Array;
  /** Derived: stacks controlled by a seat. */
  readonly stacksOf: Int32Array;
  /** Derived: markers of a seat. */
  readonly markersOf: Int32Array;
  /** Derived: collapsed cells of a seat. */
  readonly collapsedOf: Int32Array;

  /** While set, only the stack on this cell may act in `movement`. */
  mustMoveFrom = NONE;
  /** Stack that may (`capture`) or must (`chain_capture`) capture. */
  attacker = NONE;
  /** A ring is owed for a processed line (pendingLineElimination, T6). */
  lineDebt = false;
  /** A payment is owed for a processed region (2.3, pending territory elimination). */
  regionDebt = false;
  /** The current run of moves of the seat to move has a non-bookkeeping move (2.3). */
  acted = false;
  /** That run has a recovery slide (2.3). */
  recovered = false;
  /** Mover of the previous step, 0 = none; for the last-actor tie-break only (T35). */
  lastActor = 0;

  readonly lps: LpsTracker;
  /** The pie rule is switched on (4.12). */
  swapRule = false;
  swapped = false;
  seatTwoHasMoved = false;

  constructor(game: Game) {
    const cells = game.board.cellCount;
    const seats = game.players + 1;
    this.game = game;
    this.rings = Array.from({ length: cells }, () => []);
    this.height = new Int32Array(cells);
    this.cap = new Int32Array(cells);
    this.controller = new Uint8Array(cells);
    this.marker = new Uint8Array(cells);
    this.collapsed = new Uint8Array(cells);
    this.blocked = new Uint8Array(cells);
    this.hand = new Int32Array(seats).fill(game.ringsPerPlayer, 1);
    this.eliminated = new Int32Array(seats);
    this.territory = new Int32Array(seats);
    this.ringsOnBoard = new Int32Array(seats);
    this.stacksOf = new Int32Array(seats);
    this.markersOf = new Int32Array(seats);
    this.collapsedOf = new Int32Array(seats);
    this.lps = { leader: 0, seen: new Int8Array(seats).fill(UNSEEN), rounds: 0, exclusive: 0 };
  }

  clone(): State {
    const copy = new State(this.game);
    copy.phase = this.phase;
    copy.player = this.player;
    copy.over = this.over;
    copy.winner = this.winner;
    copy.victory = this.victory;
    copy.victoryBy = this.victoryBy;
    for (let cell = 0; cell < this.rings.length; cell++) copy.rings[cell] = this.rings[cell]!.slice();
    copy.height.set(this.height);
    copy.cap.set(this.cap);
    copy.controller.set(this.controller);
    copy.marker.set(this.marker);
    copy.collapsed.set(this.collapsed);
    copy.blocked.set(this.blocked);
    copy.hand.set(this.hand);
    copy.eliminated.set(this.eliminated);
    copy.territory.set(this.territory);
    copy.ringsOnBoard.set(this.ringsOnBoard);
    copy.stacksOf.set(this.stacksOf);
    copy.markersOf.set(this.markersOf);
    copy.collapsedOf.set(this.collapsedOf);
    copy.mustMoveFrom = this.mustMoveFrom;
    copy.attacker = this.attacker;
    copy.lineDebt = this.lineDebt;
    copy.regionDebt = this.regionDebt;
    copy.acted = this.acted;
    copy.recovered = this.recovered;
    copy.lastActor = this.lastActor;
    copy.lps.leader = this.lps.leader;
    copy.lps.seen.set(this.lps.seen);
    copy.lps.rounds = this.lps.rounds;
    copy.lps.exclusive = this.lps.exclusive;
    copy.swapRule = this.swapRule;
    copy.swapped = this.swapped;
    copy.seatTwoHasMoved = this.seatTwoHasMoved;
    return copy;
  }

  // ---- named predicates (2.4) ----

  controlsAny(seat: number): boolean {
    return this.stacksOf[seat]! > 0;
  }

  /** Without rings anywhere a seat is permanently eliminated. */
  hasRings(seat: number): boolean {
    return this.hand[seat]! > 0 || this.ringsOnBoard[seat]! > 0;
  }

  hasTurnMaterial(seat: number): boolean {
    return this.hand[seat]! > 0 || this.controlsAny(seat);
  }

  /** RR-CANON-R110. A seat that controls no stack has all its rings on the board buried. */
  recoveryEligible(seat: number): boolean {
    return !this.controlsAny(seat) && this.markersOf[seat]! > 0 && this.ringsOnBoard[seat]! > 0;
  }

  /** On board, not collapsed, no stack; a marker is allowed. */
  isFree(cell: number): boolean {
    return this.blocked[cell] === 0;
  }

  /** The stack has a ring of the seat below its top ring. */
  hasBuriedRing(cell: number, seat: number): boolean {
    const rings = this.rings[cell]!;
    for (let i = rings.length - 2; i >= 0; i--) if (rings[i] === seat) return true;
    return false;
  }

  /** Swap offer (RR-CANON-R180 - R184, 4.12): seat 2, start of its very first turn. */
  swapAvailable(): boolean {
    return (
      this.swapRule && !this.swapped && !this.seatTwoHasMoved && !this.over &&
      this.game.players === 2 && this.player === 2 && this.phase === 'ring_placement'
    );
  }

  // ---- mutators ----

  /** Replaces the stack on a cell; an empty list removes it. */
  setStack(cell: number, rings: number[]): void {
    const old = this.rings[cell]!;
    for (let i = 0; i < old.length; i++) this.ringsOnBoard[old[i]!]!--;
    if (old.length > 0) this.stacksOf[this.controller[cell]!]!--;
    this.rings[cell] = rings;
    const height = rings.length;
    this.height[cell] = height;
    if (height === 0) {
      this.cap[cell] = 0;
      this.controller[cell] = 0;
      this.blocked[cell] = this.collapsed[cell] === 0 ? 0 : 1;
      return;
    }
    for (let i = 0; i < height; i++) this.ringsOnBoard[rings[i]!]!++;
    const top = rings[height - 1]!;
    let cap = 1;
    while (cap < height && rings[height - 1 - cap] === top) cap++;
    this.cap[cell] = cap;
    this.controller[cell] = top;
    this.stacksOf[top]!++;
    this.blocked[cell] = 1;
  }

  /** Sets, changes or (owner 0) removes a marker. */
  setMarker(cell: number, owner: number): void {
    const old = this.marker[cell]!;
    if (old !== 0) this.markersOf[old]!--;
    if (owner !== 0) this.markersOf[owner]!++;
    this.marker[cell] = owner;
  }

  /** Collapses a cell for a seat: a marker on it goes, one territory space is scored. */
  collapse(cell: number, owner: number): void {
    this.markCollapsed(cell, owner);
    this.territory[owner]!++;
  }

  /** Collapsing without scoring; only for setting up a position. */
  markCollapsed(cell: number, owner: number): void {
    if (this.marker[cell] !== 0) this.setMarker(cell, 0);
    const old = this.collapsed[cell]!;
    if (old !== 0) this.collapsedOf[old]!--;
    this.collapsed[cell] = owner;
    this.collapsedOf[owner]!++;
    this.blocked[cell] = 1;
  }

  /** Takes rings off the top of a stack and credits them (4.11). */
  eliminateFromTop(cell: number, count: number, creditedTo: number): void {
    const rings = this.rings[cell]!;
    this.setStack(cell, rings.slice(0, rings.length - count));
    this.eliminated[creditedTo]! += count;
  }

  /** Takes the seat's bottommost ring out of a stack, if there is one, and credits it (4.9). */
  extractBottomRing(cell: number, seat: number): void {
    const rings = this.rings[cell]!;
    const index = rings.indexOf(seat);
    if (index < 0) return;
    this.setStack(cell, rings.toSpliced(index, 1));
    this.eliminated[seat]!++;
  }
}
