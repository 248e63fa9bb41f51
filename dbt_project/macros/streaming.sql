{#-
    How the streaming catalogues are cleaned. U+FFFD stands where somebody lost a character before us: what it was is
    not known, so it is taken out, and the original is kept beside.
-#}

{#- Lower case, without lost characters and zero-width blanks, every run of blanks and line ends one blank; '' is NULL. -#}
{% macro clean_text(text) -%}
    nullif(trim(regexp_replace(regexp_replace(lower({{ text }}), '[\x{FFFD}\x{200B}\x{FEFF}]', '', 'g'), '[\s\p{Z}]+', ' ', 'g')), '')
{%- endmacro %}

{#- "A, B,, A" -> [a, b, a]: the parts of a list in their order, empty ones left out. -#}
{% macro clean_list(text) -%}
    [
            {{ clean_text('part') }}
            for part in string_split(coalesce({{ text }}, ''), ',')
            if {{ clean_text('part') }} is not null
        ]
{%- endmacro %}

{#- "74 min" or "2 Seasons": group 1 is the number, group 2 the unit. -#}
{% macro duration_pattern() -%}
    '(?i)^\s*(\d+)\s*(min|season)s?\s*$'
{%- endmacro %}
