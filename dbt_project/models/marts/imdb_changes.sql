with changes as (

    select * from {{ source('raw', 'imdb_changes') }}

),

films as (

    select * from {{ ref('int_films') }}

),

final as (

    select
        changes.look,
        changes.tconst,
        changes.change,
        films.movie_key,
        changes.dump,
        changes.snapshot_at,
        changes.former_snapshot_at,
        changes.title,
        changes.former_title,
        changes.year,
        changes.former_year,
        changes.rating,
        changes.former_rating,
        cast(changes.rating - changes.former_rating as decimal(3, 1)) as rating_move,
        changes.votes,
        changes.former_votes,
        changes.votes - changes.former_votes as vote_gain
    from changes
    left join films on changes.tconst = films.tconst

)

select * from final
