"""How compiled functions reach each other: copied into the caller once, or called where they are.

Numba compiles every function on its own and copies the *optimised* code of all callees into each
caller, to be optimised again: with a call tree of eight floors that was most of the compiler's
time. Here a function has two forms:

- the *entry*, called by Python: as Numba makes it, optimised and cached on disk;
- the *copy*, for compiled callers: typed, but neither optimised nor turned into machine code nor
  cached, because the entry that it ends up in is optimised as a whole. Literal arguments do not
  make forms of their own.

References to arrays are counted, by atomic instructions that were a third of a random play-out,
only in ``jit_allocating`` functions: any other works on arrays that its caller keeps. It can
neither make an array (Numba refuses: "NRT required but not enabled") nor return one (refused here).

A ``jit_once`` function has the entry only. Compiled callers call its machine code by a symbol;
their own cached code names that symbol, and loading it loads the callee first.

This leans on Numba's inner classes (release pinned in ``requirements.txt``);
``tests/rules/test_numba_cache.py`` holds what must stay true of them.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc,attr-defined"

from __future__ import annotations

import copy
import functools
import hashlib
import importlib
from typing import Any

import llvmlite.binding as llvm
import numba
from numba.core import sigutils, types, typing
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompilerBase, DefaultPassBuilder
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import _FunctionCompiler
from numba.core.registry import CPUDispatcher

OPTIONS = {"nopython": True, "nogil": True, "error_model": "numpy", "boundscheck": None, "no_cfunc_wrapper": True}


class _CopyLibrary(JITCodeLibrary):
    """Code that is only ever linked into other code."""

    def _optimize_final_module(self) -> None:
        """The caller does it."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class _CopyPipeline(CompilerBase):
    """Numba's own pipeline, into a library of copies."""

    def define_pipelines(self):
        self.state.library = _CopyLibrary(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        return [DefaultPassBuilder.define_nopython_pipeline(self.state)]


class _Compiler(_FunctionCompiler):
    """Refuses a function without counted references that returns an array or calls one that does."""

    def _compile_core(self, args, return_type):
        made = super()._compile_core(args, return_type)
        if not self.targetoptions["_nrt"]:
            kinds, calls = made.type_annotation.typemap, made.type_annotation.calltypes
            results = [signature.return_type for call, signature in calls.items() if _calls_compiled(call, kinds)]
            if any(_holds_array(kind) for kind in (made.signature.return_type, *results)):
                raise TypeError(
                    f"{self.py_func.__qualname__} returns an array or calls a compiled function that does: "
                    "decorate it with jit_allocating, whose references are counted"
                )
        return made


def _calls_compiled(call, kinds) -> bool:
    return getattr(call, "op", None) == "call" and isinstance(kinds[call.func.name], types.Dispatcher)


def _holds_array(kind) -> bool:
    if isinstance(kind, types.BaseTuple):
        return any(_holds_array(one) for one in kind)
    return isinstance(kind, types.Array)


class _CopyCompiler(_Compiler):
    def _customize_flags(self, flags):
        flags.no_compile = True
        flags.no_cpython_wrapper = True
        return flags


class RulesDispatcher(CPUDispatcher):
    """A compiled function with the two forms of the module docstring."""

    def __init__(self, py_func, local_types=None, targetoptions=None):
        super().__init__(py_func, local_types, targetoptions)
        self.copies: dict[tuple[types.Type, ...], Any] = {}
        self._compiler = _Compiler(py_func, self.targetdescr, self.targetoptions, self.locals, Compiler)
        self._copier = _CopyCompiler(py_func, self.targetdescr, self.targetoptions, self.locals, _CopyPipeline)

    def get_call_template(self, args, kws):
        """What a compiled caller needs to know of the result's type."""
        signature, args = self._compiler.fold_argument_types(args, kws)
        args = tuple(types.unliteral(a) for a in args)
        with global_compiler_lock, self._compiling_counter:
            if args not in self.copies:
                self.copies[args] = self._register(args)
        name = self.py_func.__name__
        signatures = [self.copies[args].signature]
        return typing.make_concrete_template(f"CallTemplate({name})", name, signatures), signature, args, {}

    def get_overload(self, sig):
        """The key under which Numba knows the form that a compiled caller uses."""
        return self.copies[tuple(types.unliteral(a) for a in sigutils.normalize_signature(sig)[0])].entry_point

    def _register(self, args):
        made = self._copier.compile(args, None)
        key = object()
        self.targetctx.insert_user_function(key, made.fndesc, [made.library])
        return made._replace(entry_point=key)


class OnceDispatcher(RulesDispatcher):
    """A function whose machine code exists once and is called by symbol."""

    def add_overload(self, cres):
        """Take an entry and publish its symbol."""
        super().add_overload(cres)
        address = cres.library.get_pointer_to_function(cres.fndesc.llvm_func_name)
        llvm.add_symbol(self._symbol(cres.signature.args), address)

    def _symbol(self, args) -> str:
        kind = hashlib.sha256(repr(args).encode()).hexdigest()[:16]
        return f"{self.py_func.__module__}.{self.py_func.__qualname__}.{kind}"

    def _register(self, args):
        self.compile(args)
        made = self.overloads[args]
        fndesc = copy.copy(made.fndesc)
        fndesc.mangled_name = self._symbol(args)
        key = object()
        load = functools.partial(load_function, self.py_func.__module__, self.py_func.__qualname__, args)
        self.targetctx.insert_user_function(key, fndesc, [_Import(fndesc.mangled_name, load)])
        return made._replace(entry_point=key)


class _Import:
    """Stands where Numba expects the library of a callee: nothing to link, something to load first."""

    def __init__(self, symbol, load):
        self._reload_init = {load}
        self._module = llvm.parse_assembly(f'declare i32 @"{symbol}"()')

    def _ensure_finalized(self) -> None:
        """Nothing to do."""

    def _get_module_for_linking(self):
        return self._module


def load_function(module: str, name: str, args: tuple[types.Type, ...]) -> None:
    """Have the machine code of a ``jit_once`` function in this process: called before its callers are loaded."""
    getattr(importlib.import_module(module), name).compile(args)


def _decorate(dispatcher, counting, function):
    if numba.config.DISABLE_JIT:
        return function
    made = dispatcher(function, targetoptions=OPTIONS | {"_nrt": counting})
    made.enable_caching()
    return made


jit = functools.partial(_decorate, RulesDispatcher, False)
jit_allocating = functools.partial(_decorate, RulesDispatcher, True)
jit_once = functools.partial(_decorate, OnceDispatcher, False)
