"""`mini completion SHELL`: the script that makes a shell ask `mini __complete` at TAB; and `mini __complete`."""

from __future__ import annotations

from engine.cli.completion import candidates
from engine.context import Context
from engine.errors import MiniError, UsageError

_BASH = r"""# Completion of mini's command lines in bash: source <(mini completion bash)

_mini() {
    local rest=${COMP_LINE:0:COMP_POINT} words=() index word
    # Readline ends a word at = and : as well. What no blank parts is one word again; the last one ends at the cursor.
    for ((index = 0; index <= COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if [[ $index == 0 || $rest == [[:blank:]]* ]]; then
            rest=${rest#"${rest%%[![:blank:]]*}"}
            words+=("")
        fi
        [[ $index == "$COMP_CWORD" ]] && word=$rest
        words[${#words[@]} - 1]+=$word
        rest=${rest#"$word"}
    done
    local last=${words[${#words[@]} - 1]#[\"\']}
    words[${#words[@]} - 1]=$last
    # Of the last word, readline replaces only what it takes for one.
    local kept=${last%"$2"}
    COMPREPLY=()
    while IFS= read -r word; do
        if [[ $word == @files ]]; then
            compopt -o default
        else
            COMPREPLY+=("${word#"$kept"}")
        fi
    done < <("${words[0]}" __complete -- "${words[@]:1}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=:,/] ]]; then
        compopt -o nospace
    fi
}

complete -F _mini mini
"""

_ZSH = r"""#compdef mini
# Completion of mini's command lines in zsh: source <(mini completion zsh), or this as _mini in a directory of $fpath

_mini() {
    local -a found
    found=("${(@f)$("${words[1]}" __complete -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    found=(${found:#})
    if [[ $found == @files ]]; then
        compset -P '--*='
        _files
        return
    fi
    compadd -- ${found:#*[=:,/]}
    compadd -S '' -- ${(M)found:#*[=:,/]}
}

if [[ ${funcstack[1]} == _mini ]]; then
    _mini "$@"
else
    compdef _mini mini
fi
"""

_FISH = r"""# Completion of mini's command lines in fish: mini completion fish | source

function __mini_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -e words[1]
    set -l found ($program __complete -- $words "$current" 2>/dev/null)
    if test "$found" = @files
        set -l option (string match -r -- '^--[^=]*=' $current)
        for path in (__fish_complete_path (string replace -- "$option" '' $current))
            echo "$option"$path
        end
    else
        string join \n -- $found
    end
end

complete -c mini -f -a '(__mini_complete)'
"""

SCRIPTS = {"bash": _BASH, "fish": _FISH, "zsh": _ZSH}


def script(context: Context, shell: str) -> None:
    if shell not in SCRIPTS:
        raise UsageError(f"no completion for {shell!r}", f"the shells are {', '.join(SCRIPTS)}")
    print(SCRIPTS[shell], end="")


def complete(context: Context, words: list[str]) -> None:
    """Says nothing where something is wrong: whoever pressed TAB has asked for no error."""
    try:
        found = candidates(context, words)
    except (MiniError, OSError):
        return
    print("".join(f"{word}\n" for word in found), end="")
