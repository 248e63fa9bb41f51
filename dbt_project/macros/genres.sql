{#-
    The 18 genres of MovieLens that become feature columns, from the most telling to the least: the first that a film
    has is its main genre. (The files list genres by alphabet, so their order says nothing.)
-#}
{% macro genres() -%}
    {{ return([
        'Documentary', 'Animation', 'Horror', 'Western', 'War', 'Musical', 'Film-Noir', 'Sci-Fi', 'Children',
        'Fantasy', 'Mystery', 'Crime', 'Romance', 'Action', 'Adventure', 'Thriller', 'Comedy', 'Drama'
    ]) }}
{%- endmacro %}

{#- "Sci-Fi" -> sci_fi: the genre in a column's name. -#}
{% macro genre_column(genre) -%}
    {{ return(genre | lower | replace('-', '_')) }}
{%- endmacro %}
