{#-
    Settings that decide a model's rows, as orchestration/lib/dbt_project.py puts them into the environment. A model that
    calls one of these is out of date when its value changes (MartTranslator.get_code_version).
-#}

{#- A film that MovieLens does not hold is in the catalogue when IMDb counts at least this many votes. -#}
{% macro catalogue_min_votes() -%}
    {{ return(env_var('MARQUEE_CATALOGUE_MIN_VOTES', '1000') | int) }}
{%- endmacro %}
