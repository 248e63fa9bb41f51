{#- A newcomer has stayed who rates again this many days after the first rating, or later. -#}
{% macro staying_days() -%}
    30
{%- endmacro %}

{#- A user's first films are the first so many that were rated. -#}
{% macro first_films() -%}
    5
{%- endmacro %}
