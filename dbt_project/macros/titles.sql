{#-
    How film titles are read and compared. MovieLens writes "Seventh Seal, The (Sjunde inseglet, Det) (1957)": the
    article behind, other titles in brackets, the year last. RE2 knows no look-ahead, hence several small steps.
-#}

{#- The year and what may follow it: "(1995)", "(2006-2007)", "(1995) (V)", trailing spaces. Group 1 is the first year. -#}
{% macro year_pattern() -%}
    '\((\d{4})(?:\s*[-–—]\s*(?:\d{4})?)?\)(?:\s*\((?:V|TV|VG|[IVX]+)\))*\s*$'
{%- endmacro %}

{#- All bracketed groups at the end; a bracket inside a word, as in "Frontière(s)", is none. -#}
{% macro trailing_brackets_pattern() -%}
    '((?:\s+\([^()]*\))+)\s*$'
{%- endmacro %}

{#- "Lantern Keeper, The" -> "The Lantern Keeper"; "Atalante, L'" -> "L'Atalante". -#}
{% macro move_article(title) -%}
    regexp_replace(
        regexp_replace({{ title }}, '^(.+), ([LlDd]''|Un'')$', '\2\1'),
        '^(.+), (The|the|A|An|Le|La|Les|Un|Une|Il|Lo|Gli|I|Una|Uno|El|Los|Las|Der|Die|Das|Ein|Eine|O|Os|As|Det|Den|De|Het|En|Ett|Da)$',
        '\2 \1'
    )
{%- endmacro %}

{#-
    The form in which titles are compared: lower case, no accents, "&" as "and", apostrophes dropped, other punctuation
    to one space. Letters and digits of every script stay, Roman and Arabic numbers are left as they are.
-#}
{% macro title_key(title) -%}
    trim(regexp_replace(
        replace(
            regexp_replace(
                strip_accents(lower(regexp_replace({{ title }}, '&#?\w+;', ' ', 'g'))), '[''’‘`´]', '', 'g'
            ),
            '&', ' and '
        ),
        '[^\p{L}\p{M}\p{N}]+', ' ', 'g'
    ))
{%- endmacro %}
