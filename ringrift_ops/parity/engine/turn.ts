/**
 * The phase machine (RULES 3): the legal list of each phase (6) and what every move leads
 * to (3.2). The effects on the board live in the modules of the respective rules.
 */

import { NONE } from './board.ts';
import {
  applyElimination, applyForcedElimination, forcedEliminationAvailable, listForcedEliminations, listLinePayments,
  listRegionPayments,
} from './elimination.ts';
import { applyLine, findLines, listLineMoves } from './lines.ts';
import { trackTurnStart } from './lps.ts';
import { anyMove, applyCapture, applyStackMove, canCaptureOn, listCaptures, listStackMoves } from './movement.ts';
import {
  NO_LINE_ACTION, NO_MOVEMENT_ACTION, NO_TERRITORY_ACTION, SKIP_CAPTURE, SKIP_TERRITORY, isBookkeeping,
} from './moves.ts';
import type { EliminationContext, Move } from './moves.ts';
import { anyPlacement, applyPlacement, listPlacementMoves } from './placement.ts';
import { applyRecovery, listRecoveryMoves } from './recovery.ts';
import type { State, Victory } from './state.ts';
import { anyRegion, applyRegion, listRegionMoves } from './territory.ts';
import { evaluateVictory } from './victory.ts';

// ---- legal moves (section 6) ----

/** The complete legal list of the seat to move; empty once the game is over. */
export function legalMoves(state: State): Move[] {
  if (state.over) return [];
  switch (state.phase) {
    case 'ring_placement': return listPlacementMoves(state);
    case 'movement': return listMovementPhase(state);
    case 'capture': return listCapturePhase(state);
    case 'chain_capture': return listChainPhase(state);
    case 'line_processing': return listLinePhase(state);
    case 'territory_processing': return listTerritoryPhase(state);
    case 'forced_elimination': return listForcedPhase(state);
    case 'game_over': return [];
  }
}

function listMovementPhase(state: State): Move[] {
  const moves: Move[] = [];
  for (let cell = 0; cell < state.height.length; cell++) {
    if (state.controller[cell] !== state.player) continue;
    if (state.mustMoveFrom !== NONE && state.mustMoveFrom !== cell) continue;
    listStackMoves(state, cell, moves);
    listCaptures(state, cell, 'overtaking_capture', moves);
  }
  if (state.mustMoveFrom === NONE) listRecoveryMoves(state, moves);
  if (moves.length === 0) moves.push(NO_MOVEMENT_ACTION);
  return moves;
}

/** After a simple move only the stack that moved may capture, and need not (T26). */
function listCapturePhase(state: State): Move[] {
  const moves: Move[] = [];
  listCaptures(state, state.attacker, 'overtaking_capture', moves);
  moves.push(SKIP_CAPTURE);
  return moves;
}

function listChainPhase(state: State): Move[] {
  const moves: Move[] = [];
  listCaptures(state, state.attacker, 'continue_capture_segment', moves);
  return moves;
}

/** Lines and an open debt are offered side by side (T6). */
function listLinePhase(state: State): Move[] {
  const moves: Move[] = [];
  listLineMoves(state, moves);
  if (state.lineDebt) listLinePayments(state, moves);
  if (moves.length === 0) moves.push(NO_LINE_ACTION);
  return moves;
}

function listTerritoryPhase(state: State): Move[] {
  const moves: Move[] = [];
  if (state.regionDebt) {
    listRegionPayments(state, moves);
  } else {
    listRegionMoves(state, moves);
    if (moves.length > 0) moves.push(SKIP_TERRITORY);
  }
  if (moves.length === 0) moves.push(NO_TERRITORY_ACTION);
  return moves;
}

function listForcedPhase(state: State): Move[] {
  const moves: Move[] = [];
  listForcedEliminations(state, moves);
  return moves;
}

// ---- applying a move (section 3.2) ----

/** Plays a move of the legal list. The state is changed in place. */
export function applyMove(state: State, move: Move): void {
  const mover = state.player;
  if (mover === 2) state.seatTwoHasMoved = true;
  // The move counts as part of the mover's run while it is being processed (2.3).
  if (!isBookkeeping(move.type)) state.acted = true;
  performMove(state, move);
  state.lastActor = mover;
}

function performMove(state: State, move: Move): void {
  switch (move.type) {
    case 'place_ring':
      applyPlacement(state, move.to, move.count);
      state.phase = 'movement';
      return;
    case 'skip_placement':
    case 'no_placement_action':
      state.phase = 'movement';
      endGameIfStuck(state);
      return;
    case 'swap_sides':
      state.swapped = true; // 4.12: only the identities change seats
      return;
    case 'move_stack':
      applyStackMove(state, move.from, move.to);
      afterLanding(state, move.to, 'capture');
      return;
    case 'overtaking_capture':
    case 'continue_capture_segment':
      applyCapture(state, move.from, move.via, move.to);
      afterLanding(state, move.to, 'chain_capture');
      return;
    case 'recovery_slide':
      applyRecovery(state, move);
      finishMovement(state);
      return;
    case 'skip_capture':
      // mustMoveFrom stays set until the territory phase (T23).
      state.attacker = NONE;
      state.phase = 'line_processing';
      return;
    case 'skip_recovery':
    case 'no_movement_action':
      finishMovement(state);
      return;
    case 'process_line':
      applyLine(state, move.cells, move.cells);
      afterLine(state);
      return;
    case 'choose_line_option':
      applyLine(state, move.cells, move.chosen);
      afterLine(state);
      return;
    case 'no_line_action':
      afterNoLineAction(state);
      return;
    case 'eliminate_rings_from_stack':
      applyElimination(state, move.to, move.variant as EliminationContext);
      // A paid line debt leaves the phase; `no_line_action` follows (T8).
      if (state.phase === 'territory_processing' && !anyRegion(state, state.player)) endTurn(state);
      return;
    case 'choose_territory_option':
      applyRegion(state, move.cells);
      return;
    case 'skip_territory_processing':
    case 'no_territory_action':
      if (mustForceElimination(state)) state.phase = 'forced_elimination';
      else endTurn(state);
      return;
    case 'forced_elimination':
      applyForcedElimination(state, move.to);
      endTurn(state);
  }
}

/** A stack has landed: it goes on capturing if it can, else the movement is over. */
function afterLanding(state: State, cell: number, capturePhase: 'capture' | 'chain_capture'): void {
  if (canCaptureOn(state, cell)) {
    state.phase = capturePhase;
    state.attacker = cell;
  } else {
    finishMovement(state);
  }
}

function finishMovement(state: State): void {
  state.phase = 'line_processing';
  state.attacker = NONE;
  state.mustMoveFrom = NONE;
}

function enterTerritory(state: State): void {
  state.phase = 'territory_processing';
  state.mustMoveFrom = NONE;
}

/** Without a debt or a further line the phase moves on by itself (3.2 note 3). */
function afterLine(state: State): void {
  if (!state.lineDebt && findLines(state, state.player).length === 0) enterTerritory(state);
}

/** An inactive seat with stacks and nothing to claim skips the territory phase (T31). */
function afterNoLineAction(state: State): void {
  if (mustForceElimination(state) && !anyRegion(state, state.player)) state.phase = 'forced_elimination';
  else enterTerritory(state);
}

/** RR-CANON-R100: nothing done in this turn although the seat controls a stack. */
function mustForceElimination(state: State): boolean {
  return !state.acted && state.controlsAny(state.player);
}

/**
 * Active-no-moves check (3.4) after a skipped placement. In games played from the start it
 * never finds anything, as victory was tested when the turn began.
 */
function endGameIfStuck(state: State): void {
  const seat = state.player;
  const stuck =
    state.hasTurnMaterial(seat) && !anyPlacement(state, seat) && !anyMove(state, seat) &&
    !forcedEliminationAvailable(state, seat);
  if (!stuck) return;
  const victory = evaluateVictory(state);
  if (victory !== null) finishGame(state, victory, 'turn');
}

// ---- end of turn (section 3.3) ----

function endTurn(state: State): void {
  const victory = evaluateVictory(state);
  if (victory !== null) {
    finishGame(state, victory, 'turn');
    return;
  }
  rotate(state);
  if (trackTurnStart(state)) {
    const lpsWin: Victory = {
      winner: state.player, reason: 'last_player_standing', kind: 'lps_rounds', handCountsAsEliminated: false,
    };
    finishGame(state, lpsWin, 'lps');
  }
}

/** Next seat that has any ring; buried rings are enough. */
function rotate(state: State): void {
  const players = state.game.players;
  const previous = state.player;
  let next = previous;
  for (let step = 1; step <= players; step++) {
    next = ((previous - 1 + step) % players) + 1;
    if (state.hasRings(next)) break;
  }
  if (next !== previous) {
    // A seat that moves twice running keeps its run of moves (T18).
    state.acted = false;
    state.recovered = false;
  }
  state.player = next;
  state.phase = 'ring_placement';
  state.mustMoveFrom = NONE;
  state.attacker = NONE;
  state.lineDebt = false;
}

function finishGame(state: State, victory: Victory, by: 'turn' | 'lps'): void {
  state.over = true;
  state.phase = 'game_over';
  state.winner = victory.winner;
  state.victory = victory;
  state.victoryBy = by;
}
