{{ config(materialized='incremental', incremental_strategy='append', full_refresh=false, on_schema_change='fail') }}

with matched as (

    select * from {{ ref('int_movies_matched') }}

),

imdb_only as (

    select * from {{ ref('int_imdb_only_films') }}

),

known as (

    {% if is_incremental() %}
    select * from {{ this }}
    {% else %}
    select
        cast(null as bigint) as movie_key,
        cast(null as varchar) as source,
        cast(null as varchar) as source_id
    where false
    {% endif %}

),

films as (

    select distinct
        edition,
        film_id,
        tconst
    from matched
    union all
    select
        cast(null as varchar) as edition,
        cast(null as integer) as film_id,
        tconst
    from imdb_only

),

adopted as (

    select movie_key
    from known
    where source = 'imdb'

),

-- The key that a film had while it was unmatched, unless a title has taken it over already.
films_with_own_key as (

    select
        films.*,
        known.movie_key as own_key,
        known.movie_key in (select adopted.movie_key from adopted) as is_adopted
    from films
    left join known on films.edition = known.source and cast(films.film_id as varchar) = known.source_id

),

-- A film that loses its match may not take its first key back, which now belongs to the title: it gets a second one.
natural_ids as (

    select
        edition,
        film_id,
        case when tconst is not null then 'imdb' else edition end as source,
        case
            when tconst is not null then tconst
            when own_key is not null and is_adopted then film_id || '#2'
            else cast(film_id as varchar)
        end as source_id,
        case when tconst is not null and not is_adopted then own_key end as inherited_key
    from films_with_own_key

),

new_ids as (

    select natural_ids.*
    from natural_ids
    left join known on natural_ids.source = known.source and natural_ids.source_id = known.source_id
    where known.movie_key is null

),

last_key as (

    select coalesce(max(movie_key), 0) as movie_key
    from known

),

final as (

    select
        cast(
            coalesce(
                new_ids.inherited_key,
                last_key.movie_key
                + row_number() over (
                    partition by new_ids.inherited_key is null
                    order by new_ids.edition asc nulls last, new_ids.film_id asc, new_ids.source_id asc
                )
            ) as bigint
        ) as movie_key,
        new_ids.source,
        new_ids.source_id
    from new_ids
    cross join last_key

)

select * from final
